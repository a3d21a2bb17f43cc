"""The features step as a KFP component."""

from kfp import dsl

from components.images import DATA


@dsl.component(base_image=DATA, install_kfp_package=False)
def features(
    recipe: dsl.Input[dsl.Artifact],
    clean: dsl.Input[dsl.Dataset],
    features: dsl.Output[dsl.Dataset],
    card: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
    version: str = "dev",
    environment: str = "local",
    engine: str = "duckdb",
) -> None:
    """Fill a Feast store from a clean dataset folder; see components/features/README.md.

    Args:
        recipe: The resolved recipe, for its section `features`.
        clean: The dataset folder that passed validation.
        features: The store, with training.parquet and evaluation.parquet read from it.
        card: What was made.
        metrics: Rows, seconds and peak memory.
        version: Names the feature services: recommender_<version>.
        environment: The stores: local (DuckDB, SQLite) or cluster (Redis).
        engine: Computes the features: duckdb in this pod, or spark where Spark's own settings say.
    """
    from pathlib import Path

    from components.features.step import build_features
    from components.features.step import card as card_of
    from components.measure import measured
    from nextpage.interactions.slices import FeaturesConfig
    from nextpage.recipes import parse_recipe

    with measured() as cost:
        summary = build_features(
            Path(clean.path),
            Path(features.path),
            parse_recipe(Path(recipe.path).read_text()).part("features", FeaturesConfig),
            version=version,
            environment=environment,
            engine=engine,
        )
    Path(card.path).write_text(card_of(summary))
    for name in ("events", "users", "items", "snapshots", "training_rows", "evaluation_rows"):
        metrics.log_metric(name, float(summary[name]))
    metrics.log_metric("seconds", cost.seconds)
    metrics.log_metric("peak_memory_mb", cost.peak_memory_mb)
