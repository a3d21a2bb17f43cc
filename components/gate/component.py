"""The two gates of a rollout as KFP components."""

from kfp import dsl

from components.images import CONTROL


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def canary(
    rollout: str,
    record: dsl.Output[dsl.Artifact],
    verdict: dsl.Output[dsl.Artifact],
    card: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
    wait: bool = False,
) -> None:
    """Is the release that is being rolled out broken? A look of minutes; see components/gate/README.md.

    Args:
        rollout: The rollout's settings, YAML or JSON text.
        record: The look's record, JSON; "null" where nothing is being rolled out.
        verdict: Passed on PROMOTE alone, with reasons.
        card: The look for people.
        metrics: Requests of the new release, failures, percent of users, seconds and peak memory.
        wait: Look until there is a verdict, for canary_wait_minutes of the settings at most.
    """
    from pathlib import Path

    from components.deploy.config import read_rollout
    from components.deploy.traffic import open_rollout
    from components.gate.card import write_canary
    from components.gate.step import await_canary, judge_canary
    from components.measure import measured

    with measured() as cost:
        config = read_rollout(rollout)
        moving = open_rollout(config)
        look = await_canary(config, moving.state) if wait else judge_canary(config, moving.state())
    found = write_canary(look, record=Path(record.path), verdict=Path(verdict.path), card=Path(card.path))
    for name, value in {**found, "seconds": cost.seconds, "peak_memory_mb": cost.peak_memory_mb}.items():
        metrics.log_metric(name, value)


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def gate(
    rollout: str,
    record: dsl.Output[dsl.Artifact],
    verdict: dsl.Output[dsl.Artifact],
    card: dsl.Output[dsl.Markdown],
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    approved_by: str = "",
) -> None:
    """Is the release that is being rolled out better? The A/B test's look; see components/gate/README.md.

    Args:
        rollout: The rollout's settings, YAML or JSON text.
        record: The look's record, JSON; "null" where there is nothing to judge.
        verdict: Passed on PROMOTE alone, with reasons.
        card: The look for people.
        page: The same with the effect drawn day by day.
        metrics: Day, users of each arm, percent of users, the primary metric's effect, seconds and peak memory.
        approved_by: Who approves a promotion that waits for it; empty: nobody.
    """
    from pathlib import Path

    from components.deploy.config import read_rollout
    from components.deploy.traffic import open_rollout
    from components.gate.card import write_look
    from components.gate.step import judge
    from components.measure import measured

    with measured() as cost:
        config = read_rollout(rollout)
        look = judge(config, open_rollout(config).state(), approved_by=approved_by or None)
    found = write_look(
        look, record=Path(record.path), verdict=Path(verdict.path), card=Path(card.path), page=Path(page.path)
    )
    for name, value in {**found, "seconds": cost.seconds, "peak_memory_mb": cost.peak_memory_mb}.items():
        metrics.log_metric(name, value)
