"""What brings the world to a state: the one interface that the state machine knows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from serving.rollout.release import Release
from serving.rollout.state import State

STRATEGIES = ("httproute", "standard-canary", "knative")  # of a cluster, the best first
Fence = Callable[[], None]  # raises LeaseLost where this process must not write any more


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The release that must answer at `url`, past all weights, before the state counts as reached."""

    release: Release
    url: str


class Driver(Protocol):
    """Every call may come again, in any later process."""

    name: str

    def check(self, release: Release) -> None:
        """Raise RolloutRefused where this driver cannot serve the release safely."""

    def apply(self, state: State, fence: Fence) -> None:
        """Ask for `state`."""

    def waiting_for(self, state: State, seconds: float) -> str | None:
        """None once the world is in `state`; else what it lacks, after waiting up to `seconds` for a change."""

    def probe(self, state: State) -> Probe | None:
        """Which release has to pass a smoke test in `state`, and where."""

    def clean(self, state: State, fence: Fence) -> None:
        """Remove what a settled `state` needs no more."""
