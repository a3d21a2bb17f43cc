"""Whether drift starts a retraining run, and the one run that it starts.

However often it is called, by however many, whatever the API answers: at most one retraining run is under way, and at
most one begins in a cool-down. For nothing is started that was not looked for just before, nothing is started twice by
one call, and of several that began at once all but the eldest are ended.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from components.retrain.runs import PREFIX, NotKnown, NotMade, Retraining, Runs

NAMED = 3  # columns in the name of a run
ATTEMPTS = 4
LOOKS_S = (2.0, 5.0, 15.0, 40.0)  # after a start whose answer was lost


@dataclass(frozen=True, kw_only=True)
class Decision:
    """`name`: of the run that is to be started; empty: none is, for `reason`."""

    name: str = ""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """`run`: the id of the run that this call started, or found where its own answer was lost; empty: none."""

    run: str = ""
    said: str


def decide(
    findings: Mapping[str, Any], runs: Sequence[Retraining], *, now: datetime, cooldown: timedelta, moving: bool
) -> Decision:
    """Whether a run is due by `findings`, the monitor's JSON, and `runs`, retraining runs with the newest first.

    `moving`: a release is being rolled out. A run that failed or was ended by hand counts for the cool-down as well:
    what failed yesterday fails today.
    """
    drift, monitor = ({one["gate"]: one for one in findings["verdicts"]}[gate] for gate in ("drift", "monitor"))
    moved = sorted(
        (one for one in findings["findings"] if one["drifted"]), key=lambda one: -one["value"] / one["bound"]
    )
    if not monitor["passed"]:
        return Decision(reason=f"the monitor is not to be believed: {'; '.join(monitor['reasons'])}")
    if drift["passed"] or not moved:
        return Decision(reason="nothing moved past its bound")
    columns = list(dict.fromkeys(one["column"] for one in moved))
    what = ", ".join(columns[:NAMED]) + (f" and {len(columns) - NAMED} more" if len(columns) > NAMED else "")
    if moving:
        return Decision(reason=f"{what} drifted, but a release is being rolled out: it is judged first")
    if active := [run for run in runs if run.active]:
        return Decision(reason=f"{what} drifted, and a retraining is under way: {active[-1].name}")
    if runs and now - runs[0].created < cooldown:
        again = runs[0].created + cooldown
        return Decision(
            reason=f"{what} drifted, but {runs[0].name!r} is too new: not before {again:%Y-%m-%d %H:%M} UTC"
        )
    return Decision(name=f"{PREFIX}drift of {what} ({now:%Y-%m-%d})", reason=f"{what} drifted")


def retrain(
    api: Runs,
    findings: Mapping[str, Any],
    arguments: Mapping[str, Any],
    *,
    now: datetime,
    cooldown: timedelta,
    moving: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Start a run where one is due.

    Raises NotKnown where nobody can say whether it was made, NotMade or an error of the client where the API stays
    away: call again later, and what there is then is found.
    """
    rule: dict[str, Any] = {"now": now, "cooldown": cooldown, "moving": moving}
    decision = decide(findings, (), **rule)
    for attempt in range(1, ATTEMPTS + 1):
        if decision.name:
            decision = decide(findings, _with_one_under_way(api), **rule)
        if not decision.name:
            return Outcome(said=decision.reason)
        try:
            return _if_first(api, api.start(decision.name, arguments), decision)
        except NotMade as busy:
            if attempt == ATTEMPTS:
                raise
            print(f"{busy}, asked again", flush=True)
            sleep(LOOKS_S[attempt - 1])
        except NotKnown as lost:
            return _if_first(api, _look_for(api, decision, lost, sleep), decision)
    raise AssertionError


def _with_one_under_way(api: Runs) -> list[Retraining]:
    """Retraining runs, the newest first. Of several under way, which were started at once, all but the eldest are
    ended: whoever looks sees the same one."""
    runs = api.newest()
    _, *younger = sorted((run for run in runs if run.active), key=lambda run: (run.created, run.id)) or [None]
    for run in younger:
        api.end(run.id)
    ended = {run.id for run in younger}
    return [replace(run, active=run.active and run.id not in ended) for run in runs]


def _look_for(api: Runs, decision: Decision, lost: NotKnown, sleep: Callable[[float], None]) -> str:
    """The run whose start was not answered. It may come late: so it is looked for, and never started again here."""
    for wait in LOOKS_S:
        sleep(wait)
        if found := [run for run in api.newest() if run.active and run.name == decision.name]:
            return found[-1].id
    raise NotKnown(f"{lost}, and no run {decision.name!r} is to be seen: the next look starts it, if it never comes")


def _if_first(api: Runs, run: str, decision: Decision) -> Outcome:
    other = next((one for one in _with_one_under_way(api) if one.active and one.id != run), None)
    if other:
        return Outcome(said=f"{decision.reason}, and {other.name!r} was first: our own run was ended")
    return Outcome(run=run, said=f"{decision.reason}: {decision.name!r} was started")
