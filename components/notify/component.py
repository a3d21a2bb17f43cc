"""The notify step as a KFP component: the exit handler of a run."""

from kfp import dsl

from components.images import CONTROL


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def notify(
    status: dsl.PipelineTaskFinalStatus,
    card: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
    run: str,
    name: str = "nextpage",
    notes: str = "",
    webhook: str = "",
) -> None:
    """Say what the run came to, however it ended; see components/notify/README.md.

    Args:
        status: How it ended, as Kubeflow Pipelines fills it in.
        card: State, verdicts, release and link.
        metrics: Whether it succeeded; gates that passed and that failed.
        run: The run's id.
        name: The release's name.
        notes: The folder where steps left verdicts and release; empty: none.
        webhook: A URL that is sent the same as JSON. Empty: the one of the environment's NEXTPAGE_WEBHOOK, or none.
    """
    import os
    from pathlib import Path

    from components.notify.notes import take
    from components.notify.step import SUCCEEDED, Summary, as_json, as_markdown
    from components.notify.webhook import post

    verdicts, release = take(notes, run)
    summary = Summary(
        name=name,
        run=run,
        state=status.state,
        error=status.error_message or "",
        verdicts=tuple(verdicts),
        release=release,
    )
    print(summary.sentence)
    url = webhook or os.environ.get("NEXTPAGE_WEBHOOK", "")
    told = post(url, as_json(summary)) if url else ""
    print(told)
    Path(card.path).write_text(as_markdown(summary, told))
    metrics.log_metric("succeeded", float(status.state == SUCCEEDED))
    metrics.log_metric("gates_passed", float(len(verdicts) - len(summary.failed)))
    metrics.log_metric("gates_failed", float(len(summary.failed)))
