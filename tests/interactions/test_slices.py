import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextpage.interactions.slices import FeaturesConfig, Slices, cut_slices

Page = tuple[int, int, int]
pages_of_a_user = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(0, 9)), min_size=0, max_size=30)


def events_of(log: list[list[Page]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each page: seconds since the page before (0: the same second), shown items, of which positive at most."""
    user, time, positive = [], [], []
    for number, pages in enumerate(log):
        moment = 100
        for gap, shown, liked in pages:
            moment += gap
            user += [number] * shown
            time += [moment] * shown
            positive += [place < liked for place in range(shown)]
    return np.array(user, np.int32), np.array(time, np.int64), np.array(positive, bool)


def slice_of(slices: Slices, user: int, time: int) -> np.ndarray:
    return np.flatnonzero((slices.user == user) & (slices.target_from <= time) & (time < slices.as_of))


@given(st.lists(pages_of_a_user, max_size=4), st.integers(1, 20), st.integers(2, 40))
def test_every_training_event_is_a_target_of_exactly_one_slice(log, stride, events):
    user, time, positive = events_of(log)
    slices = cut_slices(user=user, time=time, positive=positive, config=FeaturesConfig(stride=stride, events=events))
    assert all(len(slice_of(slices, *event)) == 1 for event in zip(user, time, strict=True))
    targets = [
        ((user == u) & (start <= time) & (time < end)).sum()
        for u, start, end in zip(slices.user, slices.target_from, slices.as_of, strict=True)
    ]
    assert sum(targets) == len(user)
    assert all(count > 0 for count in targets)


@given(st.lists(pages_of_a_user, max_size=4), st.integers(1, 20), st.integers(2, 40))
def test_a_slice_ends_with_the_first_moment_that_reaches_a_bound_or_with_the_log(log, stride, events):
    user, time, positive = events_of(log)
    slices = cut_slices(user=user, time=time, positive=positive, config=FeaturesConfig(stride=stride, events=events))

    def reaches(events_of_slice: np.ndarray) -> bool:
        return positive[events_of_slice].sum() >= stride or events_of_slice.sum() >= events // 2

    for u, start, end in zip(slices.user, slices.target_from, slices.as_of, strict=True):
        own = (user == u) & (start <= time)
        assert not reaches(own & (time < end - 1))
        assert reaches(own & (time < end)) or not (own & (time >= end)).any()


def test_a_slice_ends_with_the_page_that_reaches_the_stride():
    user, time, positive = events_of([[(1, 3, 3)] * 6])
    slices = cut_slices(user=user, time=time, positive=positive, config=FeaturesConfig(stride=6))
    assert slices.target_from.tolist() == [101, 103, 105]
    assert slices.as_of.tolist() == [103, 105, 107]


def test_exposures_alone_are_cut_by_half_of_the_history():
    user, time, positive = events_of([[(1, 5, 0)] * 4])
    slices = cut_slices(user=user, time=time, positive=positive, config=FeaturesConfig(events=20))
    assert slices.target_from.tolist() == [101, 103]


@pytest.mark.parametrize(("field", "value"), [("events", 1), ("stride", 0)])
def test_a_bound_that_holds_nothing_is_refused(field, value):
    with pytest.raises(ValueError, match=field):
        FeaturesConfig(**{field: value})
