"""The features step in Kubeflow."""

from kfp import dsl

from components.images import BASE_IMAGE


@dsl.component(base_image=BASE_IMAGE, install_kfp_package=False)
def build_features(
    clean: dsl.Input[dsl.Dataset],
    features: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    card: dsl.Output[dsl.Markdown],
    events: int = 512,
    stride: int = 192,
    version: str = "dev",
    environment: str = "local",
):
    """Make histories and profiles in a Feast store, and the training and evaluation rows read from it.

    Args:
        clean: The dataset folder that passed validation.
        features: The Feast store's folder with training.parquet and evaluation.parquet.
        metrics: Seconds, peak memory and counts.
        card: What was made, in a table.
        events: The last events of a user that a history holds.
        stride: New clicked or ordered events a training slice, about.
        version: Names the feature services: recommender_<version>.
        environment: Which feature_store.yaml: local or cluster.
    """
    from pathlib import Path

    from components.features.step import run

    figures = run(
        clean=Path(clean.path),
        features=Path(features.path),
        card=Path(card.path),
        events=events,
        stride=stride,
        version=version,
        environment=environment,
    )
    for name, value in figures.items():
        metrics.log_metric(name, value)
