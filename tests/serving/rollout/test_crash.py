"""A process that dies at any call of a rollout: others finish what it began, and it ends in one of two legal states."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from serving.rollout.cluster import Cluster
from serving.rollout.errors import ReleaseRejected
from serving.rollout.rollout import Rollout
from serving.rollout.state import Phase
from tests.serving.rollout.api_server import InProcess
from tests.serving.rollout.conftest import FAST, STRATEGIES, World, a_release, a_world

MOST_CALLS = 400


class Died(BaseException):
    """No `except` of the code under test may catch it."""


class Mortal(Cluster):
    """Dies instead of a call, and is dead from then on."""

    def __init__(self, world: World, calls: int) -> None:
        super().__init__(InProcess(world.server), FAST, sleep=world.time.sleep)
        self._left = calls

    def _call(self, *args: Any, **named: Any) -> Any:
        if self._left <= 0:
            raise Died
        self._left -= 1
        return super()._call(*args, **named)


def worlds(strategy: str, prepare: Callable[[Rollout], object], script: Callable[[Rollout], object]) -> Iterator[World]:
    """The world after `script` died before its n-th call, for every n there is; the last one lived."""
    for calls in range(MOST_CALLS):
        world = a_world(strategy)
        world.broken.add("bad")
        world.in_process = True
        prepare(world.process())
        lived = True
        try:
            script(world.process(Mortal(world, calls)))
        except Died:
            lived = False
        except ReleaseRejected:
            pass
        yield world
        assert not world.controllers.wrong, (calls, world.controllers.wrong)
        if lived:
            return
    raise AssertionError(f"more than {MOST_CALLS} calls")


def roll_out(rollout: Rollout) -> None:
    """What a pipeline does, which may run again from its start."""
    state = rollout.start(a_release("r2"))
    for percent in (10, 50):
        if state.stable.name != "r2" and state.percent < percent:
            state = rollout.ramp("r2", percent)
    rollout.promote("r2")


def half_way(rollout: Rollout) -> None:
    rollout.start(a_release("r1"))
    rollout.start(a_release("r2"))
    rollout.ramp("r2", 50)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_rollout_run_again_after_a_crash_anywhere_promotes_once(strategy: str) -> None:
    for world in worlds(strategy, lambda rollout: rollout.start(a_release("r1")), roll_out):
        for _ in range(2):
            roll_out(world.process())
            state = world.process().state()
            assert (state.phase, state.shares) == (Phase.SETTLED, {"r2": 100})
            assert [outcome.release for outcome in state.past if outcome.promoted] == ["r1", "r2"]
            assert world.controllers.traffic() == {"r2": 100}
        assert world.controllers.seen[-1] == {"r2": 100}
        assert world.controllers.seen.count({"r2": 100}) == 1  # reached once and never left


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_promotion_that_died_is_either_not_begun_or_done(strategy: str) -> None:
    ends = []
    for world in worlds(strategy, half_way, lambda rollout: rollout.promote("r2")):
        state = world.process().resume()
        ends.append((state.phase, state.shares == {"r2": 100}))
        assert world.controllers.traffic() == state.shares
    assert set(ends) == {(Phase.RAMPING, False), (Phase.SETTLED, True)}
    assert ends == sorted(ends, key=lambda end: end[1])  # once done, always done


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_rollback_that_died_is_finished_by_whoever_comes_next(strategy: str) -> None:
    for world in worlds(strategy, half_way, lambda rollout: rollout.roll_back("r2", "worse")):
        state = world.process().roll_back("r2", "worse")
        assert (state.phase, state.shares) == (Phase.SETTLED, {"r1": 100})
        assert world.controllers.traffic() == {"r1": 100}
        assert [outcome.reason for outcome in state.past if not outcome.promoted] == ["worse"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_release_that_fails_its_smoke_test_never_has_traffic_wherever_the_process_dies(strategy: str) -> None:
    def start_bad(rollout: Rollout) -> None:
        rollout.start(a_release("bad"))

    for world in worlds(strategy, lambda rollout: rollout.start(a_release("r1")), start_bad):
        for _ in range(2):
            with pytest.raises(ReleaseRejected, match="empty slate"):
                start_bad(world.process())
        assert world.process().state().shares == {"r1": 100}
        assert not any("bad" in traffic for traffic in world.controllers.seen)
        kept = {service["metadata"]["name"] for service in world.server.store.all("inferenceservices")}
        assert len(kept) == 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_first_release_comes_up_wherever_its_process_died(strategy: str) -> None:
    for world in worlds(strategy, lambda rollout: None, lambda rollout: rollout.start(a_release("r1"))):
        assert world.process().start(a_release("r1")).shares == {"r1": 100}
        assert world.controllers.traffic() == {"r1": 100}
