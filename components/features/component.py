"""The features step as a KFP component."""

from kfp import dsl

from components.images import BASE_IMAGE


@dsl.component(base_image=BASE_IMAGE, install_kfp_package=False)
def features(
    clean: dsl.Input[dsl.Dataset],
    features: dsl.Output[dsl.Dataset],
    card: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
    events: int = 512,
    stride: int = 192,
    version: str = "dev",
    environment: str = "local",
) -> None:
    """Fill a Feast store from a clean dataset folder; see components/features/README.md."""
    from pathlib import Path

    from components.features.step import build_features
    from components.features.step import card as card_of
    from components.measure import measured
    from nextpage.interactions.slices import FeaturesConfig

    with measured() as cost:
        summary = build_features(
            Path(clean.path),
            Path(features.path),
            FeaturesConfig(events=events, stride=stride),
            version=version,
            environment=environment,
        )
    Path(card.path).write_text(card_of(summary))
    for name in ("events", "users", "items", "snapshots", "training_rows", "evaluation_rows"):
        metrics.log_metric(name, float(summary[name]))
    metrics.log_metric("seconds", cost.seconds)
    metrics.log_metric("peak_memory_mb", cost.peak_memory_mb)
