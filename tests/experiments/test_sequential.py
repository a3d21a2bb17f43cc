import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from statsmodels.stats.power import NormalIndPower

from nextpage.experiments.sequential import (
    SPENDING,
    SequentialConfig,
    always_valid_bounds,
    critical_values,
    crossing_probabilities,
    group_sequential_bounds,
    obrien_fleming,
    pocock,
)

PATHS = 200_000


def walks(information: np.ndarray, effect: float, seed: int) -> np.ndarray:
    """z at each look of many Brownian motions, [PATHS, K]."""
    steps = np.diff(information, prepend=0.0)
    score = np.cumsum(
        np.random.default_rng(seed).standard_normal((PATHS, len(steps))) * np.sqrt(steps) + effect * steps, axis=1
    )
    return score / np.sqrt(information)


@pytest.mark.parametrize(
    ("spending", "bounds"),
    [
        # Reboussin, DeMets, Kim, Lan (2000), five equal looks, two-sided .05: ldbounds prints the same.
        (obrien_fleming, [4.8769, 3.3569, 2.6803, 2.2898, 2.0310]),
        (pocock, [2.4380, 2.4268, 2.4101, 2.3966, 2.3859]),
    ],
)
def test_bounds_are_the_published_ones(spending, bounds):
    fraction = np.arange(1, 6) / 5
    assert group_sequential_bounds(fraction, spending(fraction, 0.025)) == pytest.approx(bounds, abs=6e-4)


@pytest.mark.parametrize(
    ("fraction", "power", "alpha", "bounds"),
    [
        # spotify_confidence 4.1.0, sequential_bound_solver.bounds(fraction, alpha, power, 8, 1).bounds
        ([0.2, 0.4, 0.6, 0.8, 1.0], 2, 0.05, [2.87816, 2.47019, 2.20091, 1.98177, 1.79017]),
        ([0.1, 0.15, 0.5, 0.55, 0.9, 1.0], 3, 0.025, [4.05563, 3.82006, 2.7412, 2.75268, 2.13355, 2.07053]),
        (
            [look / 14 for look in range(1, 15)],
            2,
            0.05,
            [
                3.47534,
                3.14631,
                2.94434,
                2.78664,
                2.65379,
                2.53733,
                2.43264,
                2.33681,
                2.24796,
                2.1647,
                2.08604,
                2.01122,
                1.93964,
                1.87083,
            ],
        ),
    ],
)
def test_bounds_are_those_of_spotify_confidence(fraction, power, alpha, bounds):
    found = group_sequential_bounds(fraction, alpha * np.array(fraction) ** power)
    assert found == pytest.approx(bounds, abs=3e-4)


def test_one_look_is_the_test_of_every_textbook():
    assert group_sequential_bounds([3.7], [0.025]) == pytest.approx([norm.isf(0.025)])
    effect, users = 0.1, 1_000
    power = NormalIndPower().power(effect, users, 0.05, ratio=1, alternative="larger")
    information = users / 2
    found = crossing_probabilities([information], [norm.isf(0.05)], effect)
    assert found.sum() == pytest.approx(power, abs=1e-9)


@given(
    st.lists(st.floats(0.05, 1.0), min_size=1, max_size=12),
    st.sampled_from(sorted(SPENDING)),
    st.sampled_from([0.005, 0.025, 0.05]),
)
def test_exactly_alpha_is_spent_however_unevenly_looks_come(steps, spending, alpha):
    information = np.cumsum(steps)
    fraction = information / information[-1]
    bounds = group_sequential_bounds(information, SPENDING[spending](fraction, alpha))
    assert crossing_probabilities(information, bounds, 0.0).sum() == pytest.approx(alpha, rel=1e-4)


@pytest.mark.parametrize("spending", sorted(SPENDING))
@pytest.mark.parametrize("calendar", ["even", "front-loaded"])
def test_twenty_eight_looks_cross_alpha_of_the_time_without_an_effect(spending, calendar):
    days = np.arange(1, 29)
    information = days / 28 if calendar == "even" else 1 / (0.5 + 5 / days)  # users differ: information saturates
    bounds = critical_values(information, days / 28, 0.025, 1.0, SequentialConfig(spending=spending))
    crossed = (walks(information, 0.0, seed=1) >= bounds).any(axis=1).mean()
    assert crossed == pytest.approx(0.025, abs=4 * np.sqrt(0.025 * 0.975 / PATHS))


def test_power_is_what_simulation_finds():
    information = np.array([1.0, 2.5, 3.0, 6.0])
    bounds = group_sequential_bounds(information, obrien_fleming(information / 6, 0.025))
    found = crossing_probabilities(information, bounds, 1.2)
    first = np.argmax(np.c_[walks(information, 1.2, seed=2) >= bounds, np.ones(PATHS, dtype=bool)], axis=1)
    simulated = np.bincount(first, minlength=5)[:4] / PATHS
    assert found == pytest.approx(simulated, abs=4 * 0.5 / np.sqrt(PATHS))


def test_twenty_looks_at_a_fixed_test_are_wrong_a_quarter_of_the_time():
    """Armitage, McPherson, Rowe (1969): 24.8% at a two-sided 5%. It is why any of this is here."""
    looks = np.arange(1, 21) / 20
    assert (np.abs(walks(looks, 0.0, seed=3)) >= 1.96).any(axis=1).mean() == pytest.approx(0.248, abs=0.005)


def test_an_always_valid_bound_holds_at_a_thousand_looks_and_no_horizon():
    information = np.geomspace(0.01, 100, 1_000)
    bounds = always_valid_bounds(information, 0.05, 1.0)
    steps = np.diff(information, prepend=0.0)
    draw = np.random.default_rng(4)
    crossed = 0
    for _ in range(20):
        score = np.cumsum(draw.standard_normal((1_000, 1_000)) * np.sqrt(steps), axis=1)
        crossed += (score / np.sqrt(information) >= bounds).any(axis=1).sum()
    assert 0.005 < crossed / 20_000 <= 0.05


def test_an_always_valid_bound_is_the_boundary_of_its_mixture():
    """Mixing over effects θ > 0 by a half-normal gives e = 2Φ(z√(v∕(1+v))) exp(z²v∕2(1+v)) ∕ √(1+v), and by Ville's
    inequality e ≥ 1∕α happens at most α of the time. The bound's closed form must lie on that, a little to the safe
    side."""
    alpha, planned = 0.05, 1.0
    information = np.geomspace(0.05, 50, 25)
    z = always_valid_bounds(information, alpha, planned)
    scale = (-2 * np.log(2 * alpha) + np.log(-2 * np.log(2 * alpha)) + 1) / planned
    v = information * scale
    e_value = 2 / np.sqrt(1 + v) * np.exp(z**2 * v / (2 * (1 + v))) * norm.cdf(z * np.sqrt(v / (1 + v)))
    assert (e_value >= 1 / alpha * (1 - 1e-9)).all()
    assert (e_value <= 1.2 / alpha).all()


def test_an_always_valid_bound_is_tightest_near_the_planned_information():
    information = np.geomspace(0.01, 100, 400)
    width = always_valid_bounds(information, 0.05, 1.0) / np.sqrt(information)
    other = always_valid_bounds(information, 0.05, 10.0) / np.sqrt(information)
    assert width[np.argmin(np.abs(information - 1))] < other[np.argmin(np.abs(information - 1))]
    assert width[np.argmin(np.abs(information - 10))] > other[np.argmin(np.abs(information - 10))]


@given(st.lists(st.floats(0.5, 2.0), min_size=2, max_size=8))
def test_information_that_is_lost_for_a_while_makes_no_bound_narrower(factors):
    information = np.cumprod(factors)
    fraction = np.arange(1, len(factors) + 1) / len(factors)
    bounds = group_sequential_bounds(information, obrien_fleming(fraction, 0.025))
    assert (bounds >= norm.isf(0.025) - 1e-6).all()


def test_what_is_no_information_is_refused():
    with pytest.raises(ValueError, match="must be positive"):
        group_sequential_bounds([1.0, 0.0], [0.01, 0.02])
    with pytest.raises(ValueError, match="no sequential design is named 'bayes'"):
        SequentialConfig(design="bayes")
    with pytest.raises(ValueError, match="no spending function is named 'all'"):
        SequentialConfig(spending="all")
