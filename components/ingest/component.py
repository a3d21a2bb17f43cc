"""The ingest step as a KFP component."""

from kfp import dsl

from components.images import DATA


@dsl.component(base_image=DATA, install_kfp_package=False)
def ingest(
    raw: dsl.Output[dsl.Dataset],
    card: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
    source: str = "completejourney",
    options: str = "{}",
) -> None:
    """Write a source as a dataset folder; see components/ingest/README.md."""
    from pathlib import Path

    from components.ingest.step import card as card_of
    from components.ingest.step import ingest
    from components.measure import measured

    with measured() as cost:
        summary = ingest(source, options, Path(raw.path))
    Path(card.path).write_text(card_of(source, summary))
    for name in ("rows", "users", "items", "pages"):
        metrics.log_metric(name, float(summary[name]))
    metrics.log_metric("seconds", cost.seconds)
    metrics.log_metric("peak_memory_mb", cost.peak_memory_mb)
