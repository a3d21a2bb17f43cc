"""The release step as a KFP component."""

from kfp import dsl

from components.images import CONTROL


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def release(
    candidate: dsl.Input[dsl.Model],
    figures: dsl.Input[dsl.Artifact],
    model_card: dsl.Input[dsl.Markdown],
    release: dsl.Output[dsl.Model],
    card: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
    name: str = "nextpage",
    notes: str = "",
    run: str = "",
) -> None:
    """Seal a candidate and its figures as a release; see components/release/README.md.

    Args:
        candidate: The sealed candidate that was evaluated.
        figures: metrics.json of evaluate.
        model_card: The model card.
        release: The release folder.
        card: Its manifest for people.
        metrics: Files, bytes, seconds and peak memory.
        name: The release's name.
        notes: A folder where name and hash are left for the run's summary; empty: none.
        run: The run's id, for the note.
    """
    from pathlib import Path

    from components.measure import measured
    from components.notify.notes import leave_release
    from components.release.step import make_release, release_card

    folder = Path(release.path)
    with measured() as cost:
        manifest = make_release(
            candidate=Path(candidate.path),
            metrics=Path(figures.path),
            card=Path(model_card.path),
            release=folder,
            name=name,
        )
    release.metadata["hash"] = manifest.hash
    leave_release(notes, run, name=manifest.name, hash=manifest.hash)
    Path(card.path).write_text(release_card(manifest))
    metrics.log_metric("files", float(len(manifest.files)))
    metrics.log_metric("bytes", float(sum((folder / path).stat().st_size for path in manifest.files)))
    metrics.log_metric("seconds", cost.seconds)
    metrics.log_metric("peak_memory_mb", cost.peak_memory_mb)
