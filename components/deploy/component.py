"""The two deploy steps as KFP components."""

from kfp import dsl

from components.images import CONTROL


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def deploy(
    release: dsl.Input[dsl.Model],
    rollout: str,
    card: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Give a sealed release its first users; see components/deploy/README.md.

    Args:
        release: The release folder.
        rollout: The rollout's settings, YAML or JSON text.
        card: What was done, and each release's share.
        metrics: Percent of users, seconds and peak memory.
    """
    from pathlib import Path

    from components.deploy.config import read_rollout
    from components.deploy.step import action_card, start
    from components.measure import measured

    with measured() as cost:
        done = start(read_rollout(rollout), Path(release.path))
    print("; ".join(done.reasons))
    Path(card.path).write_text(action_card(done))
    metrics.log_metric("percent", float(done.state.percent if done.state.candidate else 100))
    metrics.log_metric("seconds", cost.seconds)
    metrics.log_metric("peak_memory_mb", cost.peak_memory_mb)


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def act(
    canary: dsl.Input[dsl.Artifact],
    rollout: str,
    verdict: dsl.Output[dsl.Artifact],
    card: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
    experiment: dsl.Input[dsl.Artifact] = None,
) -> None:
    """Do what the records of the two gates say; see components/deploy/README.md.

    Args:
        canary: The canary's record; "null" where none was made.
        rollout: The rollout's settings, YAML or JSON text.
        verdict: Not passed where the release was rolled back, or is held because its figures cannot be trusted.
        card: What was done and why, and each release's share.
        metrics: Percent of users, seconds and peak memory.
        experiment: The A/B test's record, where it was asked.
    """
    from pathlib import Path

    from components.deploy.config import read_rollout
    from components.deploy.step import act as act_on
    from components.deploy.step import action_card, action_verdict
    from components.measure import measured

    with measured() as cost:
        records = [Path(record.path) for record in (canary, experiment) if record is not None]
        done = act_on(read_rollout(rollout), records)
    print(f"{done.done}: {'; '.join(done.reasons)}")
    action_verdict(done).write(Path(verdict.path))
    Path(card.path).write_text(action_card(done))
    metrics.log_metric("percent", float(done.state.percent if done.state.candidate else 100))
    metrics.log_metric("seconds", cost.seconds)
    metrics.log_metric("peak_memory_mb", cost.peak_memory_mb)
