"""How long a batch will take, learnt from those that ran."""

import math

MEMORY = 64
"""Batches after which a run counts for 1/e of what it did."""


class RunTime:
    """seconds = a + b · work, by least squares that forget, and a margin of twice the mean error, as TCP sets its timer
    (RFC 6298). `work` adds up over the requests of a batch, in whatever unit.

    Safe rather than exact: a and b are never negative; where all batches were alike, time is taken to be proportional
    to work; a run counts as at most four times what was expected, so that one hiccup moves it little.
    """

    def __init__(self) -> None:
        self._weight = self._work = self._seconds = self._work_squared = self._product = 0.0
        self._error = 0.0

    def learn(self, work: float, seconds: float) -> None:
        keep = math.exp(-1 / MEMORY)
        if self._weight:
            seconds = min(seconds, 4 * self.estimate(work))
            self._error += 0.1 * (abs(seconds - self._fixed - self._slope * work) - self._error)
        self._weight = keep * self._weight + 1
        self._work = keep * self._work + work
        self._seconds = keep * self._seconds + seconds
        self._work_squared = keep * self._work_squared + work * work
        self._product = keep * self._product + work * seconds

    def estimate(self, work: float, batches: int = 1) -> float:
        """Seconds that so much work takes in so many batches; 0 as long as none ran."""
        return batches * self._fixed + self._slope * work + 2 * self._error

    def work_within(self, seconds: float) -> float:
        """How much work a batch of so many seconds takes; at least so much that half its time is work: smaller ones
        would cost throughput and win little."""
        return max(seconds - self._fixed, self._fixed) / self._slope if self._slope else math.inf

    @property
    def _slope(self) -> float:
        """b, between 0 and what leaves a = 0."""
        if not self._work:
            return 0.0
        steepest = self._seconds / self._work
        variance = self._work_squared * self._weight - self._work**2
        if variance <= 1e-9 * self._work**2:
            return steepest
        slope = (self._product * self._weight - self._work * self._seconds) / variance
        return min(max(slope, 0.0), steepest)

    @property
    def _fixed(self) -> float:
        """a"""
        return (self._seconds - self._slope * self._work) / self._weight if self._weight else 0.0
