import numpy as np
import pytest

from nextpage.evaluation.bootstrap import BootstrapConfig, intervals, paired_intervals

CONFIG = BootstrapConfig(resamples=1_000)
USERS = np.array([f"u{row}" for row in range(400)], dtype=object)


def test_the_mean_is_over_requests_and_leaves_out_those_without_a_value():
    users = np.array(["a", "a", "b", "c"], dtype=object)
    found = intervals({"x": np.array([1.0, 0.0, 1.0, np.nan])}, users, CONFIG)["x"]
    assert found.mean == pytest.approx(2 / 3)
    assert found.low <= found.mean <= found.high


def test_with_one_request_a_user_the_interval_is_that_of_the_normal_approximation():
    values = np.random.default_rng(1).random(400)
    found = intervals({"x": values}, USERS, CONFIG)["x"]
    error = values.std() / np.sqrt(400)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_requests_of_one_user_count_together_so_copies_do_not_narrow_the_interval():
    values = np.random.default_rng(2).random(400)
    once = intervals({"x": values}, USERS, CONFIG)["x"]
    copied = intervals({"x": np.repeat(values, 9)}, np.repeat(USERS, 9), CONFIG)["x"]
    assert copied.high - copied.low == pytest.approx(once.high - once.low, rel=1e-9)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    draw = np.random.default_rng(3)
    users = np.repeat(USERS[:60], 4)
    covered = 0
    for _ in range(200):
        own = draw.random(60) < 0.4
        found = intervals({"x": np.repeat(own, 4).astype(float)}, users, BootstrapConfig(resamples=300))["x"]
        covered += found.low <= 0.4 <= found.high
    assert 0.88 <= covered / 200 <= 0.99


def test_a_paired_interval_sees_a_difference_that_the_single_ones_drown():
    easy = np.random.default_rng(4).random(400)
    better = easy + 0.01 + 0.001 * np.random.default_rng(5).standard_normal(400)
    alone = intervals({"a": better, "b": easy}, USERS, CONFIG)
    assert alone["a"].low < alone["b"].high
    paired = paired_intervals({"x": better}, {"x": easy, "y": easy}, USERS, CONFIG)
    assert list(paired) == ["x"]
    assert paired["x"].clear_of_zero
    assert paired["x"].low > 0


def test_a_seed_repeats_the_intervals_and_another_draws_others():
    values = {"x": np.random.default_rng(6).random(400)}
    assert intervals(values, USERS, CONFIG) == intervals(values, USERS, CONFIG)
    assert intervals(values, USERS, CONFIG) != intervals(values, USERS, BootstrapConfig(seed=1))


def test_a_column_without_any_value_has_no_interval():
    found = intervals({"x": np.full(400, np.nan), "y": np.ones(400)}, USERS, CONFIG)
    assert np.isnan([found["x"].mean, found["x"].low, found["x"].high]).all()
    assert not found["x"].clear_of_zero
    assert found["y"].mean == found["y"].low == found["y"].high == 1.0


def test_no_request_at_all_has_no_interval():
    found = intervals({"x": np.empty(0)}, np.empty(0, dtype=object), CONFIG)
    assert np.isnan([found["x"].mean, found["x"].low]).all()
