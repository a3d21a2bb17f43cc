import numpy as np
import pytest

from serving.run_time import RunTime


def taught(runs: list[tuple[float, float]]) -> RunTime:
    run_time = RunTime()
    for work, seconds in runs:
        run_time.learn(work, seconds)
    return run_time


def noisy(seconds: float, count: int = 400, seed: int = 0) -> list[tuple[float, float]]:
    """Batches of 1 to 32 that take 10 ms and `seconds` for each request, a tenth more or less."""
    draw = np.random.default_rng(seed)
    return [(int(n), (0.01 + seconds * n) * draw.uniform(0.9, 1.1)) for n in draw.integers(1, 33, count)]


def test_nothing_is_expected_before_anything_ran() -> None:
    assert RunTime().estimate(5) == 0
    assert RunTime().work_within(0.1) == float("inf")


def test_fixed_and_running_costs_are_told_apart() -> None:
    run_time = taught([(n, 0.01 + 0.005 * n) for n in (1, 32, 8, 16) * 20])
    assert run_time.estimate(20) == pytest.approx(0.11, rel=1e-2)
    assert run_time.estimate(40, batches=2) == pytest.approx(0.22, rel=1e-2)
    assert run_time.work_within(0.06) == pytest.approx(10, rel=1e-2)


def test_estimate_covers_nearly_every_batch_and_is_not_far_above() -> None:
    runs = noisy(0.005)
    run_time, covered = RunTime(), []
    for number, (work, seconds) in enumerate(runs):
        if number > 50:
            covered.append(run_time.estimate(work) > seconds)
        run_time.learn(work, seconds)
    assert np.mean(covered) > 0.9
    assert run_time.estimate(32) < 1.2 * 0.17


def test_a_machine_that_becomes_slower_is_followed_and_a_hiccup_is_not() -> None:
    before = taught(noisy(0.005)).estimate(16)
    hiccup = taught([*noisy(0.005), (16, 30.0)]).estimate(16)
    slower = taught([*noisy(0.005), *noisy(0.05, count=8, seed=1)]).estimate(16)
    settled = taught([*noisy(0.005), *noisy(0.05, seed=1)]).estimate(16)
    assert hiccup < 2 * before
    assert slower > 0.8
    assert settled == pytest.approx(0.81, rel=0.3)


def test_batches_that_are_all_alike_are_taken_to_cost_in_proportion() -> None:
    assert taught([(4, 0.02)] * 9).estimate(8) == pytest.approx(0.04)


def test_larger_batches_that_took_less_time_do_not_make_work_cheap() -> None:
    run_time = taught([(1, 0.2), (32, 0.1)] * 9)
    assert run_time.estimate(64) >= run_time.estimate(32) >= 0.1


def test_half_of_a_batch_is_work_however_short_it_should_be() -> None:
    run_time = taught([(n, 0.1 + 0.01 * n) for n in (1, 32) * 20])
    assert run_time.work_within(0.05) == pytest.approx(10, rel=1e-2)
