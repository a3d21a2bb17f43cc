import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from nextpage.experiments.canary import Answered, CanaryConfig, e_value, judge_canary

CONFIG = CanaryConfig()


def verdict(control: tuple[int, int], treatment: tuple[int, int], config: CanaryConfig = CONFIG) -> str:
    arms = [Answered(requests=requests, failures={"errors": errors}) for requests, errors in (control, treatment)]
    return judge_canary(*arms, config).verdict


def test_a_release_that_fails_no_more_often_goes_on():
    assert verdict((9_000, 9), (1_000, 1)) == "PROMOTE"
    assert verdict((9_000, 0), (1_000, 0)) == "PROMOTE"


def test_a_release_that_fails_more_often_is_rolled_back_within_few_requests():
    assert verdict((900, 0), (100, 10)) == "ROLLBACK"
    assert verdict((9_000, 9), (1_000, 30)) == "ROLLBACK"


def test_what_harms_both_arms_alike_is_not_the_releases_fault_but_much_of_it_stops_it():
    assert verdict((9_000, 450), (1_000, 50)) == "PROMOTE"
    assert verdict((9_000, 4_500), (1_000, 500)) == "ROLLBACK"


@pytest.mark.parametrize("answered", [(0, 0), (999, 5_000), (5_000, 999)])
def test_no_data_is_never_a_success(answered):
    assert verdict((answered[0], 0), (answered[1], 0)) == "HOLD"


def test_each_kind_of_failure_is_named_with_its_counts():
    control = Answered(requests=5_000, failures={"errors": 2, "empty slates": 3})
    treatment = Answered(requests=5_000, failures={"errors": 1, "empty slates": 60})
    decision = judge_canary(control, treatment, CONFIG)
    assert decision.verdict == "ROLLBACK"
    (reason,) = decision.reasons
    assert reason.startswith("empty slates: 60 of 5,000, control 3 of 5,000")


@given(st.integers(0, 60), st.integers(0, 60), st.floats(0.05, 0.95), st.floats(1.0, 3.0))
def test_the_closed_form_is_the_integral(treatment, control, share, tolerance):
    bound = share * tolerance / (share * tolerance + 1 - share)
    peak = max(bound, treatment / max(1, treatment + control))

    def log_likelihood(p: float) -> float:
        return treatment * math.log(p / bound) + control * (math.log1p(-p) - math.log1p(-bound))

    top = log_likelihood(min(peak, 1 - 1e-12))
    area, _ = quad(lambda p: math.exp(log_likelihood(p) - top), bound, 1 - 1e-12, points=[peak], limit=200)
    assert e_value(treatment, control, share, tolerance) == pytest.approx(
        area * math.exp(top) / (1 - bound), rel=1e-5, abs=1e-12
    )


@pytest.mark.parametrize("times_as_often", [1.0, 1.5])
def test_looking_at_every_failure_cries_wolf_at_most_alpha_of_the_time(times_as_often):
    """3,000 canaries at a tenth of the traffic, each looked at after each of 300 failures, at α = 5%."""
    share, tolerance, alpha = 0.1, 1.5, 0.05
    chance = share * times_as_often / (share * times_as_often + 1 - share)
    fell_on_treatment = np.cumsum(np.random.default_rng(0).random((3_000, 300)) < chance, axis=1)
    seen = np.arange(1, 301)
    table = np.array([[e_value(x, max(0, n - x), share, tolerance) for x in range(301)] for n in seen])
    alarmed = (table[seen - 1, fell_on_treatment] >= 1 / alpha).any(axis=1).mean()
    assert alarmed <= alpha + 4 * math.sqrt(alpha * (1 - alpha) / 3_000)


def test_a_release_that_fails_three_times_as_often_is_found():
    chance = 0.1 * 3 / (0.1 * 3 + 0.9)
    fell = np.random.default_rng(1).binomial(600, chance, 200)
    found = [e_value(int(x), int(600 - x), 0.1, 1.5) >= 1 / CONFIG.alpha for x in fell]
    assert np.mean(found) > 0.95


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="tolerance is at least 1"):
        CanaryConfig(tolerance=0.5)
    with pytest.raises(ValueError, match="control counts"):
        judge_canary(Answered(requests=1, failures={"a": 0}), Answered(requests=1, failures={"b": 0}), CONFIG)
