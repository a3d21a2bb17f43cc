from collections import Counter
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nextpage.evaluation import counts as module
from nextpage.evaluation.counts import PairCounts, count
from tests.evaluation.histories import histories

ITEMS = 6
pages = st.lists(st.lists(st.integers(0, ITEMS - 1), unique=True, min_size=1, max_size=4), max_size=5)


def as_counter(pairs: PairCounts) -> Counter[tuple[int, int]]:
    source = np.repeat(np.arange(len(pairs.offset) - 1), np.diff(pairs.offset))
    return Counter(dict(zip(zip(source.tolist(), pairs.item.tolist(), strict=True), pairs.count, strict=True)))


@given(st.lists(pages, max_size=5), st.sampled_from([1, 7, 2_000_000]))
@settings(max_examples=150, deadline=None)
def test_pairs_equal_a_count_by_hand_whatever_the_part_size(users, at_once):
    training = histories(*[[(n, n, item) for n, page in enumerate(user) for item in page] for user in users])
    follows: Counter[tuple[int, int]] = Counter()
    beside: Counter[tuple[int, int]] = Counter()
    for user in users:
        for page, following in pairwise(user):
            follows.update((a, b) for a in page for b in following)
        for page in user:
            beside.update((a, b) for a in page for b in page if a != b)
    before, module.PAIRS_AT_ONCE = module.PAIRS_AT_ONCE, at_once
    try:
        counted = count(training, ITEMS, recent_days=2)
    finally:
        module.PAIRS_AT_ONCE = before
    assert as_counter(counted.transitions) == follows
    assert as_counter(counted.cooccurrence) == beside


def test_recent_popularity_counts_the_last_days_of_training_only():
    training = histories([(0, 1, 0), (1, 50, 1)], [(0, 9, 2), (1, 60, 1)])
    counted = count(training, ITEMS, recent_days=15)
    assert counted.popularity.tolist() == [1, 2, 1, 0, 0, 0]
    assert counted.recent_popularity.tolist() == [0, 2, 0, 0, 0, 0]
