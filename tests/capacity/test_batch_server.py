"""The simulated batch server against the formulas of queues, where there are some, and against arithmetic."""

import math

import numpy as np
import pytest

from nextpage.capacity.batch_server import BatchServer

BATCHED = BatchServer(seconds=lambda size: 0.010 + 0.001 * size, most=32)
ONE_BY_ONE = BatchServer(seconds=lambda size: 1.0, most=1, wait_s=0.0)


def waits_at_most(t: float, rate: float) -> float:
    """Crommelin's (1932) distribution of the waiting time of M/D/1 with service time 1."""
    terms = ((rate * (j - t)) ** j / math.factorial(j) * math.exp(-rate * (j - t)) for j in range(math.floor(t) + 1))
    return (1 - rate) * sum(terms)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_by_one_it_is_the_queue_m_d_1(load: float) -> None:
    waited = ONE_BY_ONE.latencies(load, requests=200_000) - 1.0
    assert waited.mean() == pytest.approx(load / (2 * (1 - load)), rel=0.06)  # Pollaczek and Khinchine
    for t in (0.5, 1.5, 3.0, 6.0):
        assert np.mean(waited <= t) == pytest.approx(waits_at_most(t, load), abs=0.012)


def test_a_request_that_comes_alone_waits_for_others_and_is_then_run() -> None:
    server = BatchServer(seconds=lambda size: 0.010 * size, most=8, wait_s=0.002)
    assert np.median(server.latencies(0.1, requests=2_000)) == pytest.approx(0.012)


def test_a_batch_that_is_full_waits_no_longer() -> None:
    server = BatchServer(seconds=lambda size: 0.001, most=4, wait_s=10.0)
    assert np.median(server.latencies(1000.0)) < 0.01


def test_batches_grow_with_load_so_that_more_is_served_than_one_by_one() -> None:
    one_by_one = 1 / BATCHED.seconds(1)
    assert 5 * one_by_one < BATCHED.most_per_second
    assert BATCHED.latencies(5 * one_by_one).max() < 0.1
    assert BATCHED.latencies(1.2 * BATCHED.most_per_second)[-1] > 1.0  # and beyond the most the queue has no end


@pytest.mark.parametrize("target", [0.025, 0.035])
def test_the_highest_rate_keeps_the_target_and_a_little_more_does_not(target: float) -> None:
    rate = BATCHED.highest_rate(target)
    assert rate < 0.8 * BATCHED.most_per_second
    assert np.quantile(BATCHED.latencies(rate), 0.99) <= target
    assert np.quantile(BATCHED.latencies(1.1 * rate), 0.99) > target
    assert np.quantile(BATCHED.latencies(rate, seed=1), 0.99) == pytest.approx(target, rel=0.1)  # of other arrivals


def test_a_loose_target_leaves_room_for_bursts() -> None:
    rate = BATCHED.highest_rate(2.0)
    assert rate == 0.8 * BATCHED.most_per_second
    assert np.quantile(BATCHED.latencies(rate), 0.99) < 0.2


def test_a_target_that_no_load_can_keep_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"takes 12\.0 ms, over the 5 ms .* fewer beams"):
        BatchServer(seconds=lambda size: 0.011).highest_rate(0.005)
