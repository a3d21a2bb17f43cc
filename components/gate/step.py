"""What the users say of a release so far: a look of the A/B test, and one of the operational canary.

Both read the rollout's state and change nothing but their own records. A look without anything to judge is none.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from components.deploy.config import RolloutConfig
from components.deploy.registration import Registration, read_registration
from components.gate.chain import newest
from components.gate.evidence import answered, evidence
from nextpage.experiments.canary_record import (
    CanaryRecord,
    make_canary_record,
    read_canary_record,
    write_canary_record,
)
from nextpage.experiments.gate import HOLD
from nextpage.experiments.record import Record, Releases, make_record, read_record, write_record
from nextpage.experiments.sealed import RecordRefused
from nextpage.experiments.summary import summarise
from serving.rollout.state import Phase, State

AB, CANARY = "ab", "canary"


def judge(
    config: RolloutConfig,
    state: State,
    *,
    approved_by: str | None = None,
    day: int | None = None,
    now: datetime | None = None,
) -> Record | None:
    """The A/B test's look at the end of the last whole day, or `day`; the record is written before it is returned.

    None where no release has users, or no experiment is held. A day is looked at once: asked again, its record is
    returned as it is, unless an approval has come. Raises RecordRefused where the state is not what was registered.
    """
    found = _registered(config, state)
    if found is None or found.rule is None:
        return None
    now = now or datetime.now(UTC)
    folder = Path(config.records) / found.name / AB
    rows, days = evidence(config, found, now)
    day = min(found.rule.horizon_days, days if day is None else day)
    previous = newest(folder, read_record)
    if previous is not None and previous.summary.through_day == day and approved_by in (None, previous.approved_by):
        return previous
    summary = summarise(rows, found.rule, day)
    record = make_record(
        found.rule,
        summary,
        found.releases,
        now,
        percent=state.percent,
        previous=previous,
        approved_by=approved_by,
    )
    write_record(record, folder)
    return record


def judge_canary(
    config: RolloutConfig, state: State, *, since: datetime | None = None, now: datetime | None = None
) -> CanaryRecord | None:
    """The canary's look at requests since the share was last moved, or `since`; None where no release has users.

    What came at another share is not counted: a share's count begins with its first look, the first share's with the
    experiment.
    """
    found = _registered(config, state)
    if found is None:
        return None
    now = now or datetime.now(UTC)
    folder = Path(config.records) / found.name / CANARY
    previous = newest(folder, read_canary_record)
    since = since or _since(state, previous, found, now)
    control, treatment = answered(config, found, since)
    record = make_canary_record(
        control,
        treatment,
        config.canary,
        found.releases,
        percent=state.percent,
        since=since,
        decided_at=now,
        previous=previous,
    )
    write_canary_record(record, folder)
    return record


def await_canary(
    config: RolloutConfig,
    read_state: Callable[[], State],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> CanaryRecord | None:
    """Look until there is a verdict other than HOLD, for `canary_wait_minutes` at most; the last look."""
    ends = clock() + 60 * config.canary_wait_minutes
    while True:
        look = judge_canary(config, read_state())
        if look is None or look.verdict != HOLD or clock() >= ends:
            return look
        sleep(config.poll_s)


def _registered(config: RolloutConfig, state: State) -> Registration | None:
    if state.phase is not Phase.RAMPING or state.percent == 0:
        return None
    assert state.stable is not None
    assert state.candidate is not None
    found = read_registration(Path(config.records), state.candidate.name)
    served = Releases(control=state.stable.hash, treatment=state.candidate.hash)
    if served != found.releases:
        raise RecordRefused(f"release {found.name} is registered with {found.releases}, and {served} are served")
    return found


def _since(state: State, previous: CanaryRecord | None, found: Registration, now: datetime) -> datetime:
    if previous is None:
        return found.started
    return datetime.fromisoformat(previous.since) if previous.percent == state.percent else now
