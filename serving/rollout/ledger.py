"""Where a rollout's state is kept and its lock held, as the state machine sees it."""

from contextlib import AbstractContextManager
from typing import Protocol

from serving.rollout.state import State


class Held(Protocol):
    """The lock, held by this process, and the state under it."""

    state: State | None  # None before the first rollout

    def write(self, state: State) -> None:
        """Make it the state. Raises LeaseLost, and writes nothing, where another process took the lock over."""

    def renew(self) -> None:
        """Say that this process is alive. Raises LeaseLost as `write` does."""


class Ledger(Protocol):
    def held(self) -> AbstractContextManager[Held]:
        """Take the lock for the length of a `with`. Raises Busy where another process holds it."""

    def read(self) -> State | None:
        """The state as it is written, without the lock."""
