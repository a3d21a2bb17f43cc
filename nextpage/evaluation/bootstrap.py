"""Intervals by a bootstrap over users: a user's requests are drawn together, since they are alike.

Cameron, Gelbach, Miller (2008), "Bootstrap-based improvements for inference with clustered errors": the pairs cluster
bootstrap, with percentile intervals.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class BootstrapConfig:
    resamples: int = 1_000
    level: float = 0.95
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over requests and the bounds of its interval; all NaN where no request has a value."""

    mean: float
    low: float
    high: float

    def as_json(self) -> dict[str, float]:
        return asdict(self)

    @property
    def clear_of_zero(self) -> bool:
        return bool(self.low > 0 or self.high < 0)


def intervals(columns: Mapping[str, np.ndarray], users: np.ndarray, config: BootstrapConfig) -> dict[str, Interval]:
    """The mean of each column with its interval.

    `columns`: name → float64 [R], NaN where a request has no value; `users`: [R], whose request it is. The same seed
    draws the same users for every column, so columns may be compared. Cost: resamples × users × columns.
    """
    if not columns:
        return {}
    values = np.stack(list(columns.values()), axis=1)  # [R, M]
    cluster, sums, counts = _by_user(values, users)
    low, high = np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    if cluster:
        means = _resampled_means(sums, counts, config)
        tail = 50 * (1 - config.level)
        there = np.isfinite(means).any(axis=0)
        if there.any():
            low[there], high[there] = np.nanpercentile(means[:, there], [tail, 100 - tail], axis=0)
    mean = _ratio(sums.sum(axis=0), counts.sum(axis=0))
    return {
        name: Interval(mean=float(mean[place]), low=float(low[place]), high=float(high[place]))
        for place, name in enumerate(columns)
    }


def paired_intervals(
    first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray], users: np.ndarray, config: BootstrapConfig
) -> dict[str, Interval]:
    """The mean difference first − second, request by request, of the columns that both have."""
    return intervals({name: first[name] - second[name] for name in first if name in second}, users, config)


def _by_user(values: np.ndarray, users: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Number of users U, and per user the sums and counts of values, float64 [U, M] each."""
    names, cluster = np.unique(users.astype(str), return_inverse=True)
    there = np.isfinite(values)
    sums = np.zeros((len(names), values.shape[1]))
    counts = np.zeros_like(sums)
    np.add.at(sums, cluster, np.where(there, values, 0.0))
    np.add.at(counts, cluster, there)
    return len(names), sums, counts


def _resampled_means(sums: np.ndarray, counts: np.ndarray, config: BootstrapConfig) -> np.ndarray:
    """Means over `resamples` draws of U users with replacement, [B, M]; drawn in blocks to bound memory."""
    draw = np.random.default_rng(config.seed)
    users = len(sums)
    block = max(1, 4_000_000 // users)
    means = []
    for start in range(0, config.resamples, block):
        rows = min(block, config.resamples - start)
        times = draw.multinomial(users, np.full(users, 1 / users), size=rows).astype(np.float64)  # [b, U]
        means.append(_ratio(times @ sums, times @ counts))
    return np.concatenate(means)


def _ratio(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.where(counts > 0, sums / np.where(counts > 0, counts, 1), np.nan)
