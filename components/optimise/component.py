"""The optimise step as a KFP component."""

from kfp import dsl

from components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def optimise(
    sealed: dsl.Input[dsl.Model],
    features: dsl.Input[dsl.Dataset],
    clean: dsl.Input[dsl.Dataset],
    release: dsl.Output[dsl.Model],
    verdict: dsl.Output[dsl.Artifact],
    card: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Give a release engines for machines like the one this runs on; see components/optimise/README.md.

    Args:
        sealed: The release, as it was sealed.
        features: The features folder, for evaluation.parquet.
        clean: The dataset folder that passed validation.
        release: The same release with engines beside its files.
        verdict: Were all engines right? Those that were not are left out, and no step waits on it.
        card: What was tried, how right and how fast it is.
        metrics: Milliseconds of a search by engine and batch size, seconds and peak memory.
    """
    from pathlib import Path

    from components.measure import measured
    from components.optimise.card import step_card
    from components.optimise.config import OptimiseConfig
    from components.optimise.step import optimise
    from nextpage.recipes import read_recipe

    with measured() as cost:
        outcome = optimise(
            release=Path(sealed.path),
            features=Path(features.path),
            clean=Path(clean.path),
            optimised=Path(release.path),
            config=read_recipe(Path(sealed.path) / "recipe.yaml").part("optimise", OptimiseConfig),
        )
    outcome.verdict.write(Path(verdict.path))
    Path(card.path).write_text(step_card(outcome))
    release.metadata["hash"] = sealed.metadata.get("hash", "")
    for name, value in outcome.figures.items():
        metrics.log_metric(name, value)
    metrics.log_metric("seconds", cost.seconds)
    metrics.log_metric("peak_memory_mb", cost.peak_memory_mb)
