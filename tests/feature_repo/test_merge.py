from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.merge import Event, merge


def event(item: str, second: int, behaviour: str = "clicked", page: int | None = None) -> Event:
    moment = datetime.fromtimestamp(second, UTC)
    return Event(user_id="u", item_id=item, behaviour=behaviour, timestamp=moment, page=page)


some_events = st.lists(
    st.builds(
        event,
        st.sampled_from("abcd"),
        st.integers(1, 9),
        st.sampled_from(["exposed", "clicked", "ordered"]),
        st.none() | st.integers(1, 5),
    ),
    max_size=12,
)


def rows(history: dict) -> list[tuple]:
    return list(zip(*(history[name] for name in sorted(history)), strict=True))


@given(some_events, st.randoms())
def test_any_order_of_arrival_gives_the_same_events(events, random):
    shuffled = random.sample(events, len(events))
    one_by_one = None
    for new in shuffled:
        one_by_one = merge(one_by_one, [new], last=100)
    at_once = merge(None, events, last=100)
    assert sorted(rows(one_by_one or merge(None, [], last=100))) == sorted(rows(at_once))


@given(some_events)
def test_events_that_come_again_change_nothing(events):
    once = merge(None, events, last=100)
    assert merge(once, events, last=100) == once


@given(some_events, some_events, st.integers(1, 10))
def test_time_never_runs_backwards_and_the_length_is_bounded(first, second, last):
    history = merge(merge(None, first, last=last), second, last=last)
    assert history["history_time"] == sorted(history["history_time"])
    assert len(history["history_time"]) <= last


def test_a_late_event_takes_its_place_in_time():
    history = merge(None, [event("a", 10), event("c", 30)], last=10)
    assert merge(history, [event("b", 20)], last=10)["history_item"] == ["a", "b", "c"]


def test_the_oldest_events_are_dropped():
    history = merge(None, [event("a", 10), event("b", 20)], last=2)
    assert merge(history, [event("c", 30)], last=2)["history_item"] == ["b", "c"]
    assert merge(history, [event("z", 1)], last=2) == history


def test_a_click_joins_the_exposure_on_its_page():
    history = merge(None, [event("a", 10, "exposed", page=4)], last=10)
    merged = merge(history, [event("a", 12, "clicked", page=4)], last=10)
    assert merged == {
        "history_item": ["a"],
        "history_behaviour": [1],
        "history_page": [4],
        "history_time": [10],
    }


def test_a_page_without_a_number_comes_after_numbered_pages():
    history = merge(None, [event("a", 10, page=7)], last=10)
    assert merge(history, [event("b", 1_700_000_000)], last=10)["history_page"] == [7, 1_700_000_000]


def test_a_behaviour_outside_the_schema_is_refused():
    with pytest.raises(ValueError, match="'liked'"):
        event("a", 1, "liked")


def test_a_timestamp_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="no time zone"):
        Event(user_id="u", item_id="a", behaviour="clicked", timestamp=datetime(2024, 1, 1))
