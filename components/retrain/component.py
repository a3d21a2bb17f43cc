"""The retrain step as a KFP component."""

from kfp import dsl

from components.images import CONTROL


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def retrain(
    findings: dsl.Input[dsl.Artifact],
    recipe: dsl.Input[dsl.Artifact],
    release: dsl.Input[dsl.Model],
    card: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
    source: str = "completejourney",
    source_options: str = "{}",
    data_engine: str = "duckdb",
    rollout: str = "",
    further: dict = {},  # noqa: B006 - KFP reads the default from the signature
    endpoint: str = "",
    cooldown_days: float = 7.0,
) -> None:
    """Start the recommender pipeline where the monitor found drift; see components/retrain/README.md.

    Args:
        findings: The monitor's findings.
        recipe: The recipe to learn by, YAML.
        release: The release that serves; none is made while another one is being rolled out beside it (`moving`).
        card: What was decided and why, and a link to the run.
        metrics: Columns that drifted, whether a run was started, seconds.
        source: Where the log comes from; a parameter of the run, as the next three.
        source_options: Options of the source as JSON.
        data_engine: Where rows are judged and histories made.
        rollout: The rollout's settings.
        further: The run's other parameters; they win.
        endpoint: Kubeflow Pipelines' API. Empty: this is no cluster, and the card says what to run.
        cooldown_days: Days between the beginnings of two retrainings.
    """
    import json
    from datetime import UTC, datetime, timedelta
    from pathlib import Path

    from components.measure import measured
    from components.retrain.runs import KubeflowRuns
    from components.retrain.step import Outcome, decide
    from components.retrain.step import retrain as retrain_once

    found = json.loads(Path(findings.path).read_text())
    moving = bool(release.metadata.get("moving"))
    rule = {"now": datetime.now(UTC), "cooldown": timedelta(days=cooldown_days), "moving": moving}
    arguments = {
        "source": source,
        "source_options": source_options,
        "recipe": Path(recipe.path).read_text(),
        "data_engine": data_engine,
        "rollout": rollout,
        **further,
    }
    with measured() as cost:
        if endpoint:
            outcome = retrain_once(KubeflowRuns(endpoint), found, arguments, **rule)
        else:
            due = decide(found, [], **rule)
            outcome = Outcome(
                said=due.reason + ("; no cluster is here to retrain in: nextpage run" if due.name else "")
            )
    print(outcome.said)
    link = f"\n\n[The run](#/runs/details/{outcome.run})" if outcome.run else ""
    Path(card.path).write_text(f"# Retraining: {'started' if outcome.run else 'none'}\n\n{outcome.said}.{link}\n")
    metrics.log_metric("drifted", float(sum(one["drifted"] for one in found["findings"])))
    metrics.log_metric("started", float(bool(outcome.run)))
    metrics.log_metric("seconds", cost.seconds)
    metrics.log_metric("peak_memory_mb", cost.peak_memory_mb)
