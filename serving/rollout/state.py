"""Where a rollout stands, and the only ways on from there. Pure: nothing here calls anything.

    SETTLED ──start──▶ STARTING ──smoke test──▶ RAMPING ──promote──▶ PROMOTING ──▶ SETTLED (the new release)
                           │                       │ ▲                   │
                           └──fails───┐   rollback─┤ └ramp               │
                                      ▼            ▼                     │
       SETTLED (the old) ◀── RESTORING ◀── ROLLING_BACK ◀────rollback────┘

A release gets traffic in RAMPING and PROMOTING alone, and the only way there is through a smoke test that passed.
The first release of a service has nothing to be compared with: after its smoke test it is promoted.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from serving.rollout.errors import ReleaseRejected, RolloutRefused
from serving.rollout.release import Release, release_from_json

REMEMBERED = 20  # outcomes
REASON = 500  # characters


class Phase(StrEnum):
    SETTLED = "settled"  # one release has all traffic
    STARTING = "starting"  # the candidate comes up, without traffic
    RAMPING = "ramping"  # the candidate has `percent`
    PROMOTING = "promoting"  # the candidate has all, whatever the header says, and becomes stable
    ROLLING_BACK = "rolling back"  # the candidate has nothing any more
    RESTORING = "restoring"  # the stable release is put back where it was


MAY_HAVE_TRAFFIC = (Phase.RAMPING, Phase.PROMOTING)
TO_BE_TAKEN_BACK = (Phase.STARTING, Phase.RAMPING, Phase.PROMOTING)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How the rollout of a release ended."""

    release: str
    storage_uri: str
    promoted: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class State:
    strategy: str
    phase: Phase = Phase.SETTLED
    stable: Release | None = None  # None before the first release
    candidate: Release | None = None
    percent: int = 0  # of users (identified) and requests (others) that the candidate has
    reason: str = ""  # why it is taken back
    past: tuple[Outcome, ...] = ()  # newest last

    def __post_init__(self) -> None:
        checked_percent(self.percent)
        assert (self.candidate is None) == (self.phase is Phase.SETTLED), self
        assert self.percent == 0 or self.phase in MAY_HAVE_TRAFFIC, self

    @property
    def shares(self) -> dict[str, int]:
        """Percent of traffic by release."""
        if self.candidate is None or self.stable is None:
            served = self.stable or (self.candidate if self.percent else None)
            return {served.name: 100} if served else {}
        return {self.stable.name: 100 - self.percent, self.candidate.name: self.percent}


def checked_percent(percent: int) -> int:
    if isinstance(percent, bool) or not isinstance(percent, int) or not 0 <= percent <= 100:
        raise RolloutRefused(f"percent is {percent!r}: give a whole number from 0 to 100")
    return percent


def start(state: State, release: Release, *, again: bool = False) -> State:
    """Bring a release up beside the stable one. Returns `state` where that is done already.

    Raises RolloutRefused where it cannot start, ReleaseRejected where it was taken back before, unless `again`.
    """
    for known in (state.stable, state.candidate):
        if known and known.name == release.name:
            if known.storage_uri != release.storage_uri or known.hash != release.hash:
                raise RolloutRefused(_renamed(release, known.storage_uri))
            return state
        if known and known.storage_uri == release.storage_uri:
            raise RolloutRefused(
                f"release {release.name} lies at {release.storage_uri}, where {known.name} lies: give each its own"
            )
    if state.candidate is not None:
        raise RolloutRefused(
            f"release {release.name} cannot start while {state.candidate.name} is {state.phase} "
            f"at {state.percent}%: promote that one or roll it back"
        )
    for outcome in state.past:
        if outcome.release == release.name and outcome.storage_uri != release.storage_uri:
            raise RolloutRefused(_renamed(release, outcome.storage_uri))
    if not again:
        refuse_rejected(state, release.name)
    return replace(state, phase=Phase.STARTING, candidate=release, percent=0)


def ramp(state: State, name: str, percent: int) -> State:
    """Give the candidate `percent`. A ramp only rises, so that nobody changes from the candidate to the stable arm."""
    if checked_percent(percent) == 0:
        raise RolloutRefused(f"a ramp of {name} to 0% is a rollback: ask for that")
    if _is_stable(state, name):
        return state
    _require_candidate(state, name, (Phase.RAMPING,))
    if percent < state.percent:
        raise RolloutRefused(
            f"release {name} has {state.percent}%: a ramp to {percent}% would move users back, roll back instead"
        )
    return replace(state, percent=percent)


def promote(state: State, name: str) -> State:
    """Give the candidate all traffic, for good."""
    if _is_stable(state, name):
        return state
    _require_candidate(state, name, MAY_HAVE_TRAFFIC)
    return replace(state, phase=Phase.PROMOTING, percent=100)


def roll_back(state: State, name: str, reason: str) -> State:
    """Take the candidate's traffic away at once. Returns `state` where the release was rolled back already."""
    if _is_stable(state, name):
        raise RolloutRefused(f"release {name} is the stable one: start the release that should follow it")
    if state.candidate is None or state.candidate.name != name:
        if any(outcome.release == name and not outcome.promoted for outcome in state.past):
            return state
        raise RolloutRefused(f"release {name} is not being rolled out: {_standing(state)}")
    if state.phase not in TO_BE_TAKEN_BACK:
        return state
    return replace(state, phase=Phase.ROLLING_BACK, percent=0, reason=reason[:REASON])


def following(state: State) -> State | None:
    """What comes of itself once the world is in `state` and, in STARTING, the smoke test has passed."""
    match state.phase:
        case Phase.STARTING if state.stable is None:
            return replace(state, phase=Phase.PROMOTING, percent=100)
        case Phase.STARTING:
            return replace(state, phase=Phase.RAMPING)
        case Phase.PROMOTING:
            return _settled(state, state.candidate, promoted=True)
        case Phase.ROLLING_BACK:
            return replace(state, phase=Phase.RESTORING)
        case Phase.RESTORING:
            return _settled(state, state.stable, promoted=False)
    return None


def refuse_rejected(state: State, name: str) -> None:
    """Raise ReleaseRejected where the last thing that came of the release was a rollback."""
    outcomes = [outcome for outcome in state.past if outcome.release == name]
    if outcomes and not outcomes[-1].promoted:
        raise ReleaseRejected(
            f"release {name} was rolled back: {outcomes[-1].reason}; start it again on purpose, or make a new release"
        )


def to_json(state: State) -> str:
    return json.dumps(asdict(state), separators=(",", ":"))


def from_json(text: str) -> State:
    raw: Mapping[str, Any] = json.loads(text)
    return State(
        **{
            **raw,
            "phase": Phase(raw["phase"]),
            "stable": release_from_json(raw["stable"]) if raw["stable"] else None,
            "candidate": release_from_json(raw["candidate"]) if raw["candidate"] else None,
            "past": tuple(Outcome(**outcome) for outcome in raw["past"]),
        }
    )


def _settled(state: State, stable: Release | None, *, promoted: bool) -> State:
    assert state.candidate is not None
    ended = Outcome(
        release=state.candidate.name,
        storage_uri=state.candidate.storage_uri,
        promoted=promoted,
        reason=state.reason,
    )
    return State(strategy=state.strategy, stable=stable, past=(*state.past, ended)[-REMEMBERED:])


def _is_stable(state: State, name: str) -> bool:
    return state.stable is not None and state.stable.name == name


def _require_candidate(state: State, name: str, phases: tuple[Phase, ...]) -> None:
    if state.candidate is None or state.candidate.name != name:
        refuse_rejected(state, name)
        raise RolloutRefused(f"release {name} is not being rolled out: {_standing(state)}")
    if state.phase not in phases:
        raise RolloutRefused(f"release {name} is {state.phase}: that must end first")


def _standing(state: State) -> str:
    stable = state.stable.name if state.stable else "no release"
    return f"{stable} is stable" + (f", {state.candidate.name} is {state.phase}" if state.candidate else "")


def _renamed(release: Release, uri: str) -> str:
    return f"release {release.name} was at {uri}, now it is said to lie at {release.storage_uri}: give it a new name"
