"""The state machine over a real HTTP API and simulated controllers, for every strategy."""

import pytest

from serving.rollout.errors import ReleaseRejected
from serving.rollout.state import Phase
from tests.serving.rollout.conftest import World, a_release


def test_the_first_release_is_smoked_and_gets_everything(world: World) -> None:
    state = world.process().start(a_release("r1"))
    assert (state.phase, state.shares) == (Phase.SETTLED, {"r1": 100})
    assert world.controllers.traffic() == {"r1": 100}
    assert world.probed == ["r1"]


def test_a_ramp_moves_traffic_step_by_step_and_promotion_ends_it(world: World) -> None:
    rollout = world.process()
    rollout.start(a_release("r1"))
    assert rollout.start(a_release("r2")).shares == {"r1": 100, "r2": 0}
    for percent in (10, 50, 100):
        assert rollout.ramp("r2", percent).shares == {"r1": 100 - percent, "r2": percent}
    state = rollout.promote("r2")
    assert (state.phase, state.shares) == (Phase.SETTLED, {"r2": 100})
    assert world.controllers.traffic() == {"r2": 100}
    assert not world.controllers.wrong


def test_a_rollback_gives_everything_back(world: World) -> None:
    rollout = world.process()
    rollout.start(a_release("r1"))
    rollout.start(a_release("r2"))
    rollout.ramp("r2", 100)
    state = rollout.roll_back("r2", "orders fell by 5%")
    assert (state.phase, state.shares) == (Phase.SETTLED, {"r1": 100})
    assert world.controllers.traffic() == {"r1": 100}
    with pytest.raises(ReleaseRejected, match="orders fell by 5%"):
        rollout.start(a_release("r2"))
