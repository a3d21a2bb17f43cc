"""The monitor step as a KFP component."""

from kfp import dsl

from components.images import DATA


@dsl.component(base_image=DATA, install_kfp_package=False)
def monitor(
    recipe: dsl.Input[dsl.Artifact],
    clean: dsl.Input[dsl.Dataset],
    tokenizer: dsl.Input[dsl.Model],
    predictions: dsl.Output[dsl.Dataset],
    page: dsl.Output[dsl.HTML],
    card: dsl.Output[dsl.Markdown],
    findings: dsl.Output[dsl.Artifact],
    drift: dsl.Output[dsl.Artifact],
    verdict: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    release: dsl.Input[dsl.Model] = None,
    features: dsl.Input[dsl.Dataset] = None,
    logged: dsl.Input[dsl.Dataset] = None,
) -> None:
    """Watch inputs, codes, predictions and quality for drift. Never cache it; see components/monitor/README.md.

    Args:
        recipe: The resolved recipe, for its section `monitoring`.
        clean: The dataset folder that passed validation.
        tokenizer: The tokenizer folder, for semantic_ids.parquet.
        predictions: What was compared as predictions: the logged ones, or the release's for held-out pages.
        page: Evidently's page.
        card: The table of columns.
        findings: Windows, findings, what chance alone does, and verdicts, as JSON.
        drift: Has anything moved past its bound? Information.
        verdict: Is the monitor itself to be believed? A gate.
        metrics: Columns that drifted, seconds and peak memory.
        release: A sealed release. With `features` it answers held-out pages; without, what came since the log that it
            was learnt from is held against the weeks before.
        features: The features folder, for evaluation.parquet.
        logged: What a server showed and what came of it, as one Parquet file; used in place of the release's answers.
    """
    import shutil
    from pathlib import Path

    from components.measure import measured
    from components.monitor.config import MonitorConfig
    from components.monitor.predictions import predict, write_none
    from components.monitor.step import TooLittle, learnt_until, monitor, nothing_to_compare
    from nextpage.recipes import parse_recipe

    config = parse_recipe(Path(recipe.path).read_text()).part("monitoring", MonitorConfig)
    made = Path(predictions.path)
    written = {"html": Path(page.path), "json": Path(findings.path), "card": Path(card.path)}
    since = learnt_until(Path(release.path)) if release and not features else None
    with measured() as cost:
        if logged:
            shutil.copyfile(logged.path, made)
        elif release and features:
            asked = {"requests": config.predicted_requests, "depth": config.hits_at}
            predict(Path(release.path), Path(features.path), made, **asked)
        else:
            write_none(made)
        try:
            drifted, fitness = monitor(
                clean=Path(clean.path),
                semantic_ids=Path(tokenizer.path) / "semantic_ids.parquet",
                config=config,
                predictions=made if logged or (release and features) else None,
                learnt_until=since,
                **written,
            )
        except TooLittle as error:
            if since is None:
                raise
            drifted, fitness = nothing_to_compare(str(error), **written)
    drifted.write(Path(drift.path))
    fitness.write(Path(verdict.path))
    metrics.log_metric("drifted", float(not drifted.passed))
    metrics.log_metric("seconds", cost.seconds)
    metrics.log_metric("peak_memory_mb", cost.peak_memory_mb)
