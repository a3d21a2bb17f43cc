"""The configure step as a KFP component."""

from kfp import dsl

from components.images import DATA


@dsl.component(base_image=DATA, install_kfp_package=False)
def configure(
    recipe: str,
    resolved: dsl.Output[dsl.Artifact],
    card: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
    settings: str = "",
    data_engine: str = "duckdb",
    rollout: str = "",
) -> bool:
    """Resolve the recipe that every later step reads; see components/configure/README.md.

    Whether the release is to be rolled out.

    Args:
        recipe: The name of a recipe that ships with Nextpage, or a whole recipe as YAML text.
        resolved: The recipe with the overrides, YAML.
        card: The same, for people.
        metrics: How many settings were overridden, seconds and peak memory.
        settings: Overrides, "section.key=value" each, apart by spaces.
        data_engine: Where tables are to be computed, checked here so that a wrong one stops the run at once.
        rollout: Settings of a rollout, read here for the same reason; empty: none.
    """
    from pathlib import Path

    from components.configure.step import resolve
    from components.deploy.config import read_rollout
    from components.measure import measured
    from feature_repo.engines import check_engine

    with measured() as cost:
        check_engine(data_engine)
        chosen = resolve(recipe, settings.split())
        rolled_out = bool(rollout and read_rollout(rollout))
    chosen.write(Path(resolved.path))
    Path(card.path).write_text(f"# Recipe {chosen.name}\n\n```yaml\n{chosen.to_yaml()}```\n")
    metrics.log_metric("settings", float(len(settings.split())))
    metrics.log_metric("seconds", cost.seconds)
    metrics.log_metric("peak_memory_mb", cost.peak_memory_mb)
    return rolled_out
