"""Waiting for a server that answers in batches: `serving/batching.py` in simulated time.

Requests come as a Poisson process. While a batch runs the next one gathers, so that batches, and with them throughput,
grow with load: no closed formula gives their 99th percentile, so it is simulated. With batches of one it is the queue
M/D/1, whose waiting times have formulas; `tests/capacity/test_batch_server.py` holds the simulation to them.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SETTLING = 0.1
"""Share of the requests that is left out: they found the server empty."""


@dataclass(frozen=True, kw_only=True)
class BatchServer:
    """`seconds(n)` is what a batch of n takes; it has at most `most`, and its first waits `wait_s` for others."""

    seconds: Callable[[int], float]
    most: int = 32
    wait_s: float = 0.001

    @property
    def most_per_second(self) -> float:
        """Requests a second when there is always a full batch: what no load may reach."""
        return self.most / self.seconds(self.most)

    def latencies(self, rate: float, *, requests: int = 20_000, seed: int = 0) -> np.ndarray:
        """Seconds from coming to being answered, float [n], of requests that come at `rate` a second."""
        arrival = np.random.default_rng(seed).exponential(1 / rate, requests).cumsum().tolist()
        answered, takes = np.empty(requests), [0.0, *(self.seconds(size) for size in range(1, self.most + 1))]
        first, free = 0, 0.0
        while first < requests:
            begins = max(free, arrival[first])
            closes = begins + self.wait_s
            end = bisect_right(arrival, closes, first, min(first + self.most, requests))
            full = end == first + self.most
            free = (max(begins, arrival[end - 1]) if full else closes) + takes[end - first]
            answered[first:end] = free
            first = end
        latency: np.ndarray = answered - np.array(arrival)
        return latency[int(SETTLING * requests) :]

    def highest_rate(self, p99_s: float, *, utilisation: float = 0.8, steps: int = 10) -> float:
        """Requests a second at which the 99th percentile is still `p99_s`, at most `utilisation` of `most_per_second`.

        The bound is for a loose target: it would be kept up to nearly all of what the server can do, where a small
        burst more takes seconds to be gone. Raises ValueError where even a request that comes alone takes longer.
        """
        alone = self.wait_s + self.seconds(1)
        if alone > p99_s:
            raise ValueError(
                f"a request that comes alone takes {1000 * alone:.1f} ms, over the {1000 * p99_s:g} ms that 99% should "
                "keep: fewer beams, a shorter context, a smaller model or a faster chip"
            )
        low, high = 0.0, 2 * utilisation
        for _ in range(steps + 1):  # the first middle is the bound itself, and where that is kept it is the answer
            middle = (low + high) / 2
            if np.quantile(self.latencies(middle * self.most_per_second), 0.99) > p99_s:
                high = middle
            elif middle == utilisation:
                return utilisation * self.most_per_second
            else:
                low = middle
        return low * self.most_per_second
