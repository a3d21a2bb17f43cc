"""What a training log counts: how often each item is taken, with what, and before what."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nextpage.interactions.sequences import Sequences

DAY = 86_400
PAIRS_AT_ONCE = 2_000_000
"""Pairs sorted in one go: bounds memory near 100 MB."""


@dataclass(frozen=True, kw_only=True)
class PairCounts:
    """How often item b was met from item a, for all (a, b) met: row a is `[offset[a]:offset[a + 1]]`."""

    offset: np.ndarray  # int64 [I + 1]
    item: np.ndarray  # int32 [P], b, ascending within a row
    count: np.ndarray  # float32 [P]


@dataclass(frozen=True, kw_only=True)
class Counts:
    popularity: np.ndarray  # int64 [I], training events
    recent_popularity: np.ndarray  # int64 [I], those of the last days of training
    transitions: PairCounts  # a on a page, b on the user's next page
    cooccurrence: PairCounts  # a and b ≠ a on one page


def count(training: Sequences, items: int, recent_days: int) -> Counts:
    """Count whole training histories, one a user, of the events that are to be predicted.

    Time and memory grow with the pairs that share a page or follow; `benchmarks/baselines.py` prints both.
    """
    recent = training.time > training.time.max(initial=0) - recent_days * DAY
    start, end = page_bounds(training)
    page = np.repeat(np.arange(len(start)), end - start)  # [N]
    ends_history = np.isin(end, training.offset)
    next_start = np.where(ends_history, 0, np.append(start, 0)[1:])
    next_end = np.where(ends_history, 0, np.append(end, 0)[1:])
    return Counts(
        popularity=np.bincount(training.item, minlength=items),
        recent_popularity=np.bincount(training.item[recent], minlength=items),
        transitions=count_pairs(training.item, next_start[page], next_end[page], items),
        cooccurrence=without_self(count_pairs(training.item, start[page], end[page], items)),
    )


def page_bounds(histories: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """First event and one past the last event of each page, int64 [pages] each, in the order of the events."""
    events = len(histories.item)
    begins = np.ones(events, dtype=bool)
    begins[1:] = histories.page[1:] != histories.page[:-1]
    begins[histories.offset[:-1][np.diff(histories.offset) > 0]] = True
    start = np.flatnonzero(begins)
    return start, np.append(start, events)[1:]


def count_pairs(item: np.ndarray, start: np.ndarray, end: np.ndarray, items: int) -> PairCounts:
    """Count (item[e], item[f]) over all events e and all f in `start[e]:end[e]`.

    Events are taken in order of their item, some rows of the result at a time, so that nothing is merged afterwards.
    """
    order = np.argsort(item, kind="stable")
    pairs = np.cumsum(np.concatenate([[0], (end - start)[order]]))
    row = np.searchsorted(item[order], np.arange(items + 1))  # events of items below
    part = pairs[row[:-1]] // PAIRS_AT_ONCE
    cuts = row[np.concatenate([[0], np.flatnonzero(np.diff(part)) + 1, [items]])]
    keys, counts = [np.empty(0, dtype=np.int32)], [np.empty(0, dtype=np.float32)]
    row_size = np.zeros(items, dtype=np.int64)
    for low, high in pairwise(cuts):
        events = order[low:high]
        left = np.repeat(item[events].astype(np.int64), (end - start)[events])
        right = item[ranges(start[events], (end - start)[events])]
        key, times = np.unique(left * items + right, return_counts=True)
        row_size += np.bincount(key // items, minlength=items)
        keys.append((key % items).astype(np.int32))
        counts.append(times.astype(np.float32))
    return PairCounts(
        offset=np.concatenate([[0], np.cumsum(row_size)]),
        item=np.concatenate(keys),
        count=np.concatenate(counts),
    )


def without_self(pairs: PairCounts) -> PairCounts:
    """The same counts with no item beside itself."""
    size = np.diff(pairs.offset)
    other = pairs.item != np.repeat(np.arange(len(size)), size)
    kept_before = np.concatenate([[0], np.cumsum(other)])
    return PairCounts(offset=kept_before[pairs.offset], item=pairs.item[other], count=pairs.count[other])


def ranges(start: np.ndarray, size: np.ndarray) -> np.ndarray:
    """start[0], start[0] + 1, … (size[0] of them), start[1], …; int64 [sum of sizes]."""
    before = np.concatenate([[0], np.cumsum(size)])
    places: np.ndarray = np.arange(before[-1]) + np.repeat(start - before[:-1], size)
    return places
