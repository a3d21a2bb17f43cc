"""The state machine over a real HTTP API and simulated controllers, for every strategy."""

import pytest

from serving.rollout.errors import NotReached, ReleaseRejected, RolloutRefused
from serving.rollout.state import Phase
from tests.serving.rollout.conftest import World, a_release, a_world


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


def test_a_release_that_answers_badly_is_taken_away_and_said_why(world: World) -> None:
    world.broken.add("bad")
    rollout = world.process()
    rollout.start(a_release("r1"))
    with pytest.raises(ReleaseRejected, match="bad was rolled back: bad answers an empty slate"):
        rollout.start(a_release("bad"))
    assert rollout.state().shares == {"r1": 100}
    assert not any("bad" in traffic for traffic in world.controllers.seen)
    assert world.controllers.traffic() == {"r1": 100}


def test_a_release_whose_pods_do_not_come_up_is_taken_away(world: World) -> None:
    world.controllers.never_ready.add("r2")
    world.in_process = True
    rollout = world.process()
    rollout.start(a_release("r1"))
    with pytest.raises(ReleaseRejected, match=r"not starting after 2 s: .*r(ev-1|2)"):
        rollout.start(a_release("r2"))
    assert world.controllers.traffic() == {"r1": 100}
    assert rollout.start(a_release("r3")).shares == {"r1": 100, "r3": 0}


def test_a_first_release_that_answers_badly_leaves_nothing(world: World) -> None:
    world.broken.add("r1")
    with pytest.raises(ReleaseRejected, match="empty slate"):
        world.process().start(a_release("r1"))
    assert world.process().state().shares == {}
    assert world.controllers.traffic() == {}
    assert not world.server.store.all("inferenceservices")
    assert world.process().start(a_release("r2")).shares == {"r2": 100}


def test_a_candidate_that_fails_after_its_smoke_test_gets_no_more(world: World) -> None:
    world.in_process = True
    rollout = world.process()
    rollout.start(a_release("r1"))
    rollout.start(a_release("r2"))
    world.controllers.never_ready.add("r2")
    with pytest.raises(NotReached, match="not ramping after 2 s"):
        rollout.ramp("r2", 50)
    assert rollout.roll_back("r2", "its pods died").shares == {"r1": 100}


def test_calls_that_come_twice_change_nothing(world: World) -> None:
    rollout = world.process()
    rollout.start(a_release("r1"))
    rollout.start(a_release("r2"))
    rollout.ramp("r2", 10)
    before = objects(world)
    assert rollout.start(a_release("r2")).percent == 10
    assert rollout.ramp("r2", 10).percent == 10
    assert rollout.resume().percent == 10
    assert objects(world) == before
    rollout.promote("r2")
    before = objects(world)
    for state in (rollout.promote("r2"), rollout.ramp("r2", 50), rollout.start(a_release("r2")), rollout.resume()):
        assert state.shares == {"r2": 100}
    assert objects(world) == before


def test_only_the_stable_release_keeps_its_pods(routed: World) -> None:
    rollout = routed.process()
    for name in ("r1", "r2", "r3"):
        rollout.start(a_release(name))
        rollout.promote(name)
    assert [service["metadata"]["name"] for service in routed.server.store.all("inferenceservices")] == ["shop-r3"]


def test_another_strategy_than_the_one_begun_with_is_refused(routed: World) -> None:
    routed.process().start(a_release("r1"))
    routed.strategy = "knative"
    with pytest.raises(RolloutRefused, match="rolled out by 'httproute', not by 'knative'"):
        routed.process().start(a_release("r2"))


@pytest.fixture
def revised() -> World:
    """With strategy `knative` alone."""
    world = a_world("knative")
    world.in_process = True
    rollout = world.process()
    rollout.start(a_release("r1"))
    rollout.start(a_release("r2"))
    rollout.ramp("r2", 100)
    return world


def test_users_are_back_before_the_stable_release_has_a_revision_again(revised: World) -> None:
    revised.controllers.slow = 10**6
    with pytest.raises(NotReached, match="not restoring"):
        revised.process().roll_back("r2", "worse")
    assert revised.controllers.traffic() == {"r1": 100}


def test_an_old_status_does_not_give_users_to_the_release_that_was_taken_back(revised: World) -> None:
    revised.in_process = False
    with revised.server.running():
        revised.controllers.slow, revised.controllers.lag = 12, 8
        revised.server.faults = lambda call: revised.controllers.tick()
        state = revised.process(ready_s=1000.0, poll_s=0.05).roll_back("r2", "worse")
    assert state.shares == {"r1": 100}
    back = revised.controllers.seen.index({"r1": 100}, revised.controllers.seen.index({"r2": 100}))
    assert revised.controllers.seen[back:] == [{"r1": 100}]


def objects(world: World) -> list[str]:
    return [
        f"{kind} {entry['metadata']['name']} {entry['metadata']['resourceVersion']}"
        for kind in ("inferenceservices", "httproutes")
        for entry in world.server.store.all(kind)
    ]
