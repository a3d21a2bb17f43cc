"""The report step as a KFP component."""

from kfp import dsl

from components.images import CONTROL


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def report(
    clean: dsl.Input[dsl.Dataset],
    quarantine: dsl.Input[dsl.Dataset],
    tokenizer: dsl.Input[dsl.Model],
    model: dsl.Input[dsl.Model],
    figures: dsl.Input[dsl.Artifact],
    model_card: dsl.Input[dsl.Markdown],
    release: dsl.Input[dsl.Model],
    predictions: dsl.Input[dsl.Dataset],
    findings: dsl.Input[dsl.Artifact],
    alignment: dsl.Input[dsl.Artifact],
    data_verdict: dsl.Input[dsl.Artifact],
    tokenizer_verdict: dsl.Input[dsl.Artifact],
    alignment_verdict: dsl.Input[dsl.Artifact],
    recall_verdict: dsl.Input[dsl.Artifact],
    invalid_items_verdict: dsl.Input[dsl.Artifact],
    ingest_metrics: dsl.Input[dsl.Metrics],
    validate_metrics: dsl.Input[dsl.Metrics],
    features_metrics: dsl.Input[dsl.Metrics],
    tokenize_metrics: dsl.Input[dsl.Metrics],
    train_metrics: dsl.Input[dsl.Metrics],
    align_metrics: dsl.Input[dsl.Metrics],
    evaluate_metrics: dsl.Input[dsl.Metrics],
    release_metrics: dsl.Input[dsl.Metrics],
    optimise_metrics: dsl.Input[dsl.Metrics],
    monitor_metrics: dsl.Input[dsl.Metrics],
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    name: str = "nextpage",
) -> None:
    """One page on the run; see components/report/README.md.

    Args:
        clean: The dataset folder that passed validation.
        quarantine: The rows that did not.
        tokenizer: The tokenizer folder, for semantic_ids.parquet and quality.json.
        model: The model folder, for log.jsonl.
        figures: metrics.json of evaluate.
        model_card: The model card.
        release: The release folder, for its hash.
        predictions: What the monitor compared as predictions.
        findings: The monitor's findings.
        alignment: alignment.json of align.
        data_verdict: The verdict of validate.
        tokenizer_verdict: The verdict of tokenize.
        alignment_verdict: The verdict of align on its model against the base.
        recall_verdict: The verdict of evaluate on beating the counts.
        invalid_items_verdict: The verdict of evaluate on codes that name no item.
        ingest_metrics: Each step's metrics, for its seconds and peak_memory_mb.
        validate_metrics: As above.
        features_metrics: As above.
        tokenize_metrics: As above.
        train_metrics: As above.
        align_metrics: As above.
        evaluate_metrics: As above.
        release_metrics: As above.
        optimise_metrics: As above.
        monitor_metrics: As above.
        page: The page.
        metrics: Seconds and peak memory.
        name: The run's name, on top of the page.
    """
    import json
    from pathlib import Path

    from components.measure import measured
    from components.report.artifacts import RunArtifacts
    from components.report.step import write_report

    steps = {
        "ingest": ingest_metrics,
        "validate": validate_metrics,
        "features": features_metrics,
        "tokenize": tokenize_metrics,
        "train": train_metrics,
        "align": align_metrics,
        "evaluate": evaluate_metrics,
        "release": release_metrics,
        "optimise": optimise_metrics,
        "monitor": monitor_metrics,
    }
    verdicts = (data_verdict, tokenizer_verdict, alignment_verdict, recall_verdict, invalid_items_verdict)
    with measured() as cost:
        write_report(
            Path(page.path),
            RunArtifacts(
                name=name,
                clean=Path(clean.path),
                quarantine=Path(quarantine.path),
                tokenizer=Path(tokenizer.path),
                training_log=Path(model.path) / "log.jsonl",
                metrics=Path(figures.path),
                model_card=Path(model_card.path),
                verdicts=tuple(Path(verdict.path) for verdict in verdicts),
                costs={step: figures.metadata for step, figures in steps.items()},
                release_hash=json.loads((Path(release.path) / "manifest.json").read_text())["hash"],
                predictions=Path(predictions.path),
                drift=Path(findings.path),
                alignment=Path(alignment.path),
            ),
        )
    metrics.log_metric("seconds", cost.seconds)
    metrics.log_metric("peak_memory_mb", cost.peak_memory_mb)
