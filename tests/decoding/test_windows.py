from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextpage.decoding.windows import anchored
from nextpage.interactions.sequences import Sequences

MOST, SLACK = 40, 16


def histories(*events: np.ndarray) -> Sequences:
    """By item; event n of each history at time n of its own items."""
    item = np.concatenate(events)
    rows = np.zeros(len(events), dtype=np.int64)
    return Sequences(
        user_id=np.array(["u"] * len(events), dtype=object),
        as_of=rows,
        target_from=rows,
        offset=np.cumsum([0, *map(len, events)]),
        item=item.astype(np.int32),
        behaviour=np.zeros(len(item), dtype=np.int8),
        page=np.zeros(len(item), dtype=np.int64),
        time=item.astype(np.int64) // 3,
    )


@given(st.lists(st.integers(0, 100), min_size=1, max_size=4), st.integers(0, 9))
def test_long_histories_are_cut_to_within_the_slack_and_short_ones_are_left(lengths: list[int], seed: int) -> None:
    draw = np.random.default_rng(seed)
    events = [draw.permutation(1000)[:length] for length in lengths]
    cut = anchored(histories(*events), MOST, SLACK)
    for row, whole in enumerate(events):
        read = cut.item[cut.offset[row] : cut.offset[row + 1]]
        assert len(read) == len(whole) if len(whole) <= MOST else MOST - SLACK < len(read) <= MOST
        assert read.tolist() == whole[len(whole) - len(read) :].tolist()


def test_window_of_a_growing_history_stays_for_about_half_the_slack() -> None:
    events = np.random.default_rng(0).permutation(3000)
    firsts = [int(anchored(histories(events[:length]), MOST, SLACK).item[0]) for length in range(MOST + 1, 3000)]
    jumps = sum(before != after for before, after in pairwise(firsts))
    assert jumps == pytest.approx(2 * len(firsts) / (SLACK + 1), rel=0.1)  # the density of winnowing


def test_window_does_not_depend_on_where_the_told_history_begins() -> None:
    events = np.random.default_rng(1).permutation(500)
    whole, told_late = anchored(histories(events, events[-60:]), MOST, SLACK).take(np.array([0])), events[-60:]
    assert anchored(histories(told_late), MOST, SLACK).item.tolist() == whole.item.tolist()
