"""The served step as a KFP component."""

from kfp import dsl

from components.images import CONTROL


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def served(
    release: dsl.Output[dsl.Model],
    recipe: dsl.Output[dsl.Artifact],
    card: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
    uri: str = "",
    rollout: str = "",
    settings: str = "",
) -> bool:
    """Bring the release that serves now; see components/served/README.md.

    Whether there is one. It is the one output that is a value, for the local runner reads no other in a condition.

    Args:
        release: The release folder; empty where none serves. Its metadata say whether another one is being rolled out
            beside it: `moving`.
        recipe: Its recipe with the overrides, YAML.
        card: Which release it is.
        metrics: Whether there is one, seconds and peak memory.
        uri: Where it lies. Empty: where the rollout says.
        rollout: The rollout's settings, YAML or JSON text; empty: none.
        settings: Overrides of the recipe, "section.key=value" each, apart by spaces.
    """
    from pathlib import Path

    from components.measure import measured
    from components.served.step import bring

    with measured() as cost:
        found = bring(Path(release.path), release=uri, rollout=rollout, settings=settings, recipe=Path(recipe.path))
    print(found.said)
    Path(card.path).write_text(f"# The release that serves\n\n{found.said}\n")
    metrics.log_metric("found", float(found.found))
    metrics.log_metric("seconds", cost.seconds)
    metrics.log_metric("peak_memory_mb", cost.peak_memory_mb)
    release.metadata["moving"] = found.moving
    return found.found
