"""The ramp's share and the experiment's are one number."""

import numpy as np
import pytest

from nextpage.experiments.assignment import arm, arms
from serving.rollout.share import experiment
from serving.rollout.state import Phase, State
from tests.serving.rollout.conftest import a_release

USERS = [f"user {number}" for number in range(4_000)]


def at(percent: int, phase: Phase = Phase.RAMPING) -> State:
    return State(strategy="local", phase=phase, stable=a_release("r1"), candidate=a_release("r2"), percent=percent)


def test_the_header_follows_the_ramp_and_nobody_leaves_an_arm() -> None:
    before = np.full(len(USERS), "outside", dtype=object)
    for percent in (5, 10, 25, 50):
        now = arms(USERS, experiment(at(percent)))
        assert abs(np.mean(now == "treatment") - percent / 100) < 0.03
        assert abs(np.mean(now == "control") - percent / 100) < 0.03
        stayed = before != "outside"
        assert (now[stayed] == before[stayed]).all()
        before = now
    assert set(before) == {"control", "treatment"}


@pytest.mark.parametrize("state", [State(strategy="local", stable=a_release("r1")), at(0, Phase.ROLLING_BACK)])
def test_nobody_is_sent_to_a_release_that_has_no_traffic(state: State) -> None:
    assert {arm(user, experiment(state)) for user in USERS[:50]} == {"outside"}
