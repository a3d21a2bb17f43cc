"""The KFP component."""

from kfp import dsl

from components.images import BASE_IMAGE


@dsl.component(base_image=BASE_IMAGE, install_kfp_package=False)
def monitor(
    clean: dsl.Input[dsl.Dataset],
    tokenizer: dsl.Input[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
    card: dsl.Output[dsl.Markdown],
    findings: dsl.Output[dsl.Artifact],
    drift: dsl.Output[dsl.Artifact],
    verdict: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    predictions: dsl.Input[dsl.Dataset] = None,
    reference_weeks: int = 40,
    current_weeks: int = 4,
    drift_bound: float = 0.1,
    quality_bound: float = 0.1,
    seed: int = 0,
):
    """Watch inputs, codes and predictions for drift. It acts on the world as it is now: never cache it."""
    from pathlib import Path

    from components.measure import measured
    from components.monitor.config import MonitorConfig
    from components.monitor.step import monitor

    config = MonitorConfig(
        reference_weeks=reference_weeks,
        current_weeks=current_weeks,
        input_bound=drift_bound,
        occupancy_bound=drift_bound,
        prediction_bound=drift_bound,
        quality_bound=quality_bound,
        seed=seed,
    )
    with measured() as cost:
        drift_verdict, fitness = monitor(
            clean=Path(clean.path),
            semantic_ids=Path(tokenizer.path) / "semantic_ids.parquet",
            html=Path(page.path),
            json=Path(findings.path),
            card=Path(card.path),
            config=config,
            predictions=Path(predictions.path) if predictions else None,
        )
    drift_verdict.write(Path(drift.path))
    fitness.write(Path(verdict.path))
    metrics.log_metric("drifted", float(not drift_verdict.passed))
    metrics.log_metric("seconds", cost.seconds)
    metrics.log_metric("peak_memory_mb", cost.peak_memory_mb)
