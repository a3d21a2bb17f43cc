"""One process at a time, and nothing written by one whose time is over."""

import dataclasses

import pytest

from serving.rollout.errors import Busy, LeaseLost
from serving.rollout.lease import STATE, LeaseLedger
from serving.rollout.state import State
from tests.serving.rollout.api_server import Call
from tests.serving.rollout.conftest import NAMESPACE, SERVICE, World, a_release

LEASE = ("coordination.k8s.io/v1", "leases", NAMESPACE, f"{SERVICE}-rollout")


def ledger(world: World, identity: str) -> LeaseLedger:
    return LeaseLedger(
        cluster=world.cluster(),
        service=SERVICE,
        namespace=NAMESPACE,
        identity=identity,
        seconds=10,
        patience_s=30.0,
        clock=world.time.clock,
        sleep=world.time.sleep,
    )


def test_a_lease_that_is_renewed_is_left_to_its_holder(routed: World) -> None:
    with ledger(routed, "first").held() as held:

        def sleep(seconds: float) -> None:
            routed.time.sleep(seconds)
            held.renew()

        second = dataclasses.replace(ledger(routed, "second"), sleep=sleep)
        with pytest.raises(Busy, match="held by 'first'"), second.held():
            pass
    with ledger(routed, "second").held():  # given back
        assert routed.server.store.get(LEASE)["spec"]["holderIdentity"] == "second"


def test_a_lease_that_nobody_renews_is_taken_over_with_the_state_in_it(routed: World) -> None:
    with ledger(routed, "first").held() as first:
        first.write(State(strategy="httproute", stable=a_release("r1")))
        with ledger(routed, "second").held() as second:
            assert second.state == first.state
            assert routed.time.now >= 10
            with pytest.raises(LeaseLost, match="taken over while 'first'"):
                first.write(State(strategy="httproute"))
            with pytest.raises(LeaseLost):
                first.renew()
            assert second.state is not None
            second.write(second.state)
    assert routed.server.store.get(LEASE)["spec"]["leaseTransitions"] == 1


def test_a_process_that_slept_past_its_lease_moves_no_traffic(world: World) -> None:
    world.process().start(a_release("r1"))
    world.process().start(a_release("r2"))
    world.process().ramp("r2", 10)
    sleeper, meanwhile = world.process(), []

    def wake_up_late(call: Call) -> None:
        if call.method == "PATCH" and not meanwhile:
            meanwhile.append(True)  # its state is written; now it sleeps before it writes the traffic
            world.process().roll_back("r2", "worse")

    world.server.faults = wake_up_late
    with pytest.raises(LeaseLost):
        sleeper.ramp("r2", 50)
    assert world.controllers.traffic() == {"r1": 100}
    assert not any(traffic.get("r2") == 50 for traffic in world.controllers.seen)


def test_of_two_that_make_the_lease_at_once_one_gets_it(routed: World) -> None:
    def another_is_first(call: Call) -> None:
        if call.method == "POST":
            spec = {"holderIdentity": "another", "leaseDurationSeconds": 10}
            metadata = {"name": LEASE[3], "namespace": NAMESPACE}
            routed.server.store.create(LEASE, {"kind": "Lease", "metadata": metadata, "spec": spec})

    routed.server.faults = another_is_first
    impatient = dataclasses.replace(ledger(routed, "first"), patience_s=0.0)
    with pytest.raises(Busy, match="held by 'another'"), impatient.held():
        pass


def test_a_state_of_another_version_is_refused_by_name(routed: World) -> None:
    with ledger(routed, "first").held() as held:
        held.write(State(strategy="httproute"))
    live = routed.server.store.get(LEASE)
    live["metadata"]["annotations"][STATE] = '{"strategy": "httproute", "phase": "dancing"}'
    routed.server.store.replace(LEASE, live)
    with pytest.raises(ValueError, match="did another version of Nextpage write it"):
        ledger(routed, "first").read()
