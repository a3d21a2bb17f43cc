"""What a token carries beside its codes: small categorical features, 0 where it has none.

Training, evaluation and serving read histories through these two functions, so they cannot disagree.
"""

import numpy as np

from nextpage.interactions.sequences import Sequences

DAY = 86_400
GAP_DAYS = np.array([1, 2, 4, 7, 11, 16, 23, 32, 46, 64, 91, 183])
"""Upper bounds of the buckets of a gap in days; the last bucket is open."""
COUNTS = np.array([1, 2, 3, 4, 6, 9, 14, 22])
"""Lower bounds of the buckets of how often an item has occurred before."""

FEATURE_SIZES = (
    4,  # behaviour of a context event, + 1
    len(COUNTS) + 2,  # how often the user met the item before
    len(GAP_DAYS) + 2,  # days since they last met it
    len(GAP_DAYS) + 2,  # days from the page before to this one
    8,  # day of the week, + 1
)


def context_features(sequences: Sequences) -> np.ndarray:
    """int64 [N, F], one row an event of the history."""
    owner = np.repeat(np.arange(len(sequences)), np.diff(sequences.offset))
    times, item_gap, page_gap = _recurrence(owner, sequences.item, sequences.page, sequences.time)
    return np.stack(
        [
            sequences.behaviour.astype(np.int64) + 1,
            1 + np.searchsorted(COUNTS, times, side="right"),
            _gap_bucket(item_gap),
            _gap_bucket(page_gap),
            1 + _weekday(sequences.time),
        ],
        axis=1,
    )


def request_features(time: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """int64 [R, F] of the token that starts a page at `time`, the user's page before it at `previous` (−1: none)."""
    none = np.zeros(len(time), dtype=np.int64)
    gap = np.where(previous >= 0, time - previous, -1)
    return np.stack([none, none, none, _gap_bucket(gap), 1 + _weekday(time)], axis=1)


def _recurrence(
    owner: np.ndarray, item: np.ndarray, page: np.ndarray, time: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each event: how often its owner met the item before, seconds since then, seconds since the page before."""
    order = np.lexsort((np.arange(len(item)), item, owner))
    first = np.ones(len(item), dtype=bool)
    first[1:] = (np.diff(owner[order]) != 0) | (np.diff(item[order]) != 0)
    start = np.maximum.accumulate(np.where(first, np.arange(len(item)), 0))
    times, item_gap = np.empty_like(start), np.empty_like(start)
    times[order] = np.arange(len(item)) - start
    item_gap[order] = np.where(first, -1, np.diff(time[order], prepend=0))

    turned = np.ones(len(item), dtype=bool)
    turned[1:] = (np.diff(owner) != 0) | (np.diff(page) != 0)
    page_start = np.maximum.accumulate(np.where(turned, np.arange(len(item)), 0))
    has_previous = (page_start > 0) & (owner[page_start - 1] == owner)
    page_gap = np.where(has_previous, time - time[page_start - 1], -1)
    return times, item_gap, page_gap


def _gap_bucket(seconds: np.ndarray) -> np.ndarray:
    """0 where there is no gap to speak of (negative), else 1 and up."""
    return np.where(seconds < 0, 0, 1 + np.searchsorted(GAP_DAYS * DAY, seconds, side="right"))


def _weekday(seconds: np.ndarray) -> np.ndarray:
    return (seconds // DAY + 3) % 7  # 1970 began on a Thursday; Monday is 0
