"""What an API server does to its clients: 409, 429, 5xx, timeouts, resets; and watches that break."""

import random
from collections.abc import Callable

import pytest

from serving.rollout.cluster import ApiError, Cluster, OwnedByAnother, Reference, Retries
from serving.rollout.cluster_driver import ClusterDriver
from serving.rollout.errors import NotReached, ReleaseRejected
from serving.rollout.state import Phase
from tests.serving.rollout.api_server import Call, Faults
from tests.serving.rollout.conftest import NAMESPACE, SERVICE, STRATEGIES, World, a_release

QUICK = Retries(attempts=10, first_s=0.001, longest_s=0.01, timeout_s=0.1)
ROUTE = Reference(api_version="gateway.networking.k8s.io/v1", kind="HTTPRoute", namespace=NAMESPACE, name=SERVICE)


def often(fault: str, seed: int) -> Faults:
    """One call in three, anywhere (one in ten where it takes its time); a 409 only where something is written."""
    chance, share = random.Random(seed), 0.1 if fault == "hang" else 0.33

    def faults(call: Call) -> str | None:
        return fault if chance.random() < share and (fault != "409" or call.method != "GET") else None

    return faults


def counted(matches: Callable[[Call], bool], *faults: str | None) -> Faults:
    """These faults, one after another, for the calls that match; then none."""
    left = iter(faults)
    return lambda call: next(left, None) if matches(call) else None


@pytest.mark.parametrize("fault", ["409", "429", "500", "503", "before", "after", "hang", "half"])
def test_a_rollout_comes_through_what_goes_wrong_often(world: World, fault: str) -> None:
    world.process().start(a_release("r1"))
    world.server.faults, world.server.hang_s = often(fault, seed=7), 0.15
    rollout = world.process(Cluster(world.server.client(), QUICK, sleep=world.time.sleep))
    rollout.start(a_release("r2"))
    rollout.ramp("r2", 50)
    state = rollout.promote("r2")
    assert (state.phase, state.shares) == (Phase.SETTLED, {"r2": 100})
    assert [outcome.release for outcome in state.past if outcome.promoted] == ["r1", "r2"]
    assert world.controllers.traffic() == {"r2": 100}
    assert world.controllers.seen.count({"r2": 100}) == 1
    assert not world.controllers.wrong


@pytest.mark.parametrize("fault", ["503", "after"])
def test_a_bad_release_gets_nothing_whatever_goes_wrong(world: World, fault: str) -> None:
    world.broken.add("bad")
    world.process().start(a_release("r1"))
    world.server.faults = often(fault, seed=11)
    with pytest.raises(ReleaseRejected, match="empty slate"):
        world.process(Cluster(world.server.client(), QUICK, sleep=world.time.sleep)).start(a_release("bad"))
    assert not any("bad" in traffic for traffic in world.controllers.seen)


@pytest.mark.parametrize("fault", ["410", "503", "before", "after", "hang", None])
def test_a_watch_that_breaks_only_costs_a_look(world: World, fault: str | None) -> None:
    """Statuses come late here, so that every step is waited for."""
    world.controllers.lag, world.server.hang_s = 3, 0.15

    def faults(call: Call) -> str | None:
        world.controllers.tick()
        return fault if call.watch else None

    world.server.faults = faults
    rollout = world.process(Cluster(world.server.client(), QUICK, sleep=world.time.sleep), ready_s=20.0, poll_s=0.1)
    assert rollout.start(a_release("r1")).shares == {"r1": 100}
    rollout.start(a_release("r2"))
    assert rollout.ramp("r2", 30).shares == {"r1": 70, "r2": 30}
    assert any(call.watch for call in world.server.calls)
    assert not world.controllers.wrong


def test_tries_are_bounded_and_the_error_names_the_call_and_the_last_failure(routed: World) -> None:
    routed.server.faults = lambda call: "503"
    with pytest.raises(ApiError, match=r"GET .*/httproutes/shop failed 10 times, last with HTTP 503: try again later"):
        Cluster(routed.server.client(), QUICK, sleep=routed.time.sleep).get(ROUTE)
    assert len(routed.server.calls) == 10


def test_a_server_that_asks_for_patience_is_given_it(routed: World) -> None:
    routed.server.faults = counted(lambda call: True, "429")
    slept: list[float] = []
    assert Cluster(routed.server.client(), Retries(first_s=0.001), sleep=slept.append).get(ROUTE) is None
    assert slept == [1.0]


def test_a_refusal_is_not_repeated(routed: World) -> None:
    routed.server.faults = lambda call: "403"
    with pytest.raises(ApiError, match="HTTP 403 injected"):
        routed.cluster().get(ROUTE)
    assert len(routed.server.calls) == 1


def test_a_status_written_between_read_and_write_does_not_stop_a_write(routed: World) -> None:
    routed.process().start(a_release("r1"))
    key = ("gateway.networking.k8s.io/v1", "httproutes", NAMESPACE, SERVICE)
    notes = iter(range(3))

    def meddle(call: Call) -> str | None:
        if call.method == "PATCH" and (note := next(notes, None)) is not None:
            routed.server.store.set_status(key, {"parents": [], "note": note})
        return None

    routed.server.faults = meddle
    assert routed.process().start(a_release("r2")).phase is Phase.RAMPING


def test_an_object_that_is_on_its_way_out_is_waited_for(routed: World) -> None:
    routed.process().start(a_release("r1"))
    routed.process().start(a_release("r2"))
    entry = routed.server.store.entries["serving.kserve.io/v1beta1", "inferenceservices", NAMESPACE, "shop-r2"]
    entry.live["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    with pytest.raises(NotReached, match="shop-r2 is still being removed: run again"):
        routed.process().ramp("r2", 10)
    assert routed.controllers.traffic() == {"r1": 100}
    del entry.live["metadata"]["deletionTimestamp"]
    assert routed.process().resume().shares == {"r1": 90, "r2": 10}


def test_a_field_of_another_manager_is_not_taken_unless_told(routed: World) -> None:
    routed.process().start(a_release("r1"))
    live = routed.cluster().get(ROUTE)
    assert live is not None
    theirs = {name: live[name] for name in ("apiVersion", "kind", "spec")}
    theirs["metadata"] = {"name": SERVICE, "namespace": NAMESPACE}
    theirs["spec"]["hostnames"] = ["other.example.com"]
    key = ("gateway.networking.k8s.io/v1", "httproutes", NAMESPACE, SERVICE)
    routed.server.store.apply(key, theirs, "helm", force=True)

    with pytest.raises(OwnedByAnother, match=r"\.spec\.hostnames: conflict with 'helm'"):
        routed.process().resume()
    told = routed.process()
    driver = ClusterDriver(routed.cluster(), STRATEGIES["httproute"](), take_over=True)
    type(told)(driver=driver, ledger=told.ledger, smoke=told.smoke).resume()
    assert routed.server.store.get(key)["spec"]["hostnames"] == ["shop.example.com"]
