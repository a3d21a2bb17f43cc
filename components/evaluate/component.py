"""The evaluate step in Kubeflow."""

from kfp import dsl

from components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def evaluate(
    candidate: dsl.Input[dsl.Model],
    features: dsl.Input[dsl.Dataset],
    clean: dsl.Input[dsl.Dataset],
    figures: dsl.Output[dsl.Artifact],
    card: dsl.Output[dsl.Markdown],
    recall: dsl.Output[dsl.Artifact],
    invalid_items: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
):
    """Measure a candidate and the counts on the same requests, as the candidate's recipe says.

    Args:
        candidate: A sealed release.
        features: The features folder, for evaluation.parquet.
        clean: The dataset folder that passed validation.
        figures: metrics.json: every figure with its interval.
        card: The model card.
        recall: The verdict on beating the counts.
        invalid_items: The verdict on codes that name no item.
        metrics: Seconds, peak memory and the model's main figures.
    """
    from pathlib import Path

    from components.evaluate.step import evaluate
    from components.measure import measured

    with measured() as cost:
        outcome = evaluate(
            candidate=Path(candidate.path),
            features=Path(features.path),
            clean=Path(clean.path),
            metrics=Path(figures.path),
            card=Path(card.path),
        )
    outcome.recall.write(Path(recall.path))
    outcome.invalid_items.write(Path(invalid_items.path))
    for name, value in outcome.figures.items():
        metrics.log_metric(name, value)
    metrics.log_metric("seconds", cost.seconds)
    metrics.log_metric("peak_memory_mb", cost.peak_memory_mb)
