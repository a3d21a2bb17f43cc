"""The state machine: what a pipeline step calls to move traffic.

Every call first finishes what an earlier one left undone, then does its own part, and may be repeated: after a crash
anywhere, the same call goes on from there, and a second one changes nothing.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from serving.rollout import state as transitions
from serving.rollout.driver import Driver
from serving.rollout.errors import NoAnswer, NotReached, RolloutRefused, SmokeFailed
from serving.rollout.ledger import Held, Ledger
from serving.rollout.release import Release
from serving.rollout.smoke import Smoke
from serving.rollout.state import Phase, State


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """Raises, besides what each call says, Busy, LeaseLost and ApiError: then call again."""

    driver: Driver
    ledger: Ledger
    smoke: Smoke
    ready_s: float = 1800.0  # for a state to be reached: pods that load a model take their time
    poll_s: float = 5.0
    linger_s: float = (
        15.0  # before a release that lost its traffic may end: proxies lag behind what a route's status says
    )
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def state(self) -> State:
        """Where the rollout stands, read without the lock."""
        return self._of(self.ledger.read())

    def start(self, release: Release, *, again: bool = False) -> State:
        """Bring the release up without traffic, and ask it for a prediction. The first one of all is then promoted.

        Raises ReleaseRejected where it does not come up or answers badly, and where it was rolled back before (unless
        `again`); RolloutRefused where it cannot be started.
        """
        self.driver.check(release)
        with self.ledger.held() as held:
            begun = transitions.start(self._finished(held), release, again=again)
            ended = self._moved(held, begun)
        transitions.refuse_rejected(ended, release.name)
        return ended

    def ramp(self, name: str, percent: int) -> State:
        """Give the release `percent` of users. It may rise alone. Raises RolloutRefused, NotReached."""
        transitions.checked_percent(percent)
        with self.ledger.held() as held:
            return self._moved(held, transitions.ramp(self._finished(held), name, percent))

    def promote(self, name: str) -> State:
        """Give the release everything and make it the stable one. Raises RolloutRefused, NotReached."""
        with self.ledger.held() as held:
            return self._moved(held, transitions.promote(self._finished(held), name))

    def roll_back(self, name: str, reason: str) -> State:
        """Take the release's traffic away. It waits for nothing first. Raises RolloutRefused, NotReached."""
        with self.ledger.held() as held:
            return self._moved(held, transitions.roll_back(self._of(held.state), name, reason))

    def resume(self) -> State:
        """Finish what was begun, and see to it that the world is as the state says."""
        with self.ledger.held() as held:
            return self._converged(held)

    def _of(self, state: State | None) -> State:
        if state is None:
            return State(strategy=self.driver.name)
        if state.strategy != self.driver.name:
            raise RolloutRefused(
                f"this service is rolled out by {state.strategy!r}, not by {self.driver.name!r}: "
                "keep to that, or remove its Lease and objects first"
            )
        return state

    def _finished(self, held: Held) -> State:
        """Where it stands once what an earlier process began is done. Whatever follows a ramp writes over it anyway."""
        state = self._of(held.state)
        return state if state.phase is Phase.RAMPING else self._converged(held)

    def _moved(self, held: Held, state: State) -> State:
        if state != self._of(held.state):
            held.write(state)
        return self._converged(held)

    def _converged(self, held: Held) -> State:
        """Bring the world to the state, and the state on, until nothing comes of itself any more."""
        state = self._of(held.state)
        if held.state is None:
            return state
        while True:
            self.driver.apply(state, held.renew)
            try:
                self._await(state, held)
                self._probe(state, held)
                follows = transitions.following(state)
            except (NotReached, SmokeFailed) as failure:
                if state.phase is not Phase.STARTING:
                    raise
                assert state.candidate is not None
                follows = transitions.roll_back(state, state.candidate.name, str(failure))
            if follows is None:
                break
            if state.phase in (Phase.PROMOTING, Phase.ROLLING_BACK):
                self.sleep(self.linger_s)
            held.write(follows)
            state = follows
        if state.phase is Phase.SETTLED:
            self.driver.clean(state, held.renew)
        return state

    def _await(self, state: State, held: Held) -> None:
        ends = self.clock() + self.ready_s
        while lacks := self.driver.waiting_for(state, self.poll_s):
            if self.clock() >= ends:
                raise NotReached(f"not {state.phase} after {self.ready_s:g} s: {lacks}")
            held.renew()

    def _probe(self, state: State, held: Held) -> None:
        ends = self.clock() + self.ready_s
        while True:
            probe = self.driver.probe(state)
            if probe is None:
                return
            try:
                self.smoke(probe)
                return
            except NoAnswer as failure:
                if self.clock() >= ends:
                    raise NotReached(f"not {state.phase} after {self.ready_s:g} s: {failure}") from failure
            held.renew()
            self.sleep(self.poll_s)
