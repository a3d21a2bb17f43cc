import shutil
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.events import read_events, read_held_out
from nextpage.interactions.log import INTERACTION_SCHEMA, Dataset, Split
from tests.synthetic import START

LEAVE_ONE_OUT = Split(kind="leave_one_out")


def write(dataset: Dataset, pages: list[tuple[str, float, str]], split: Split) -> Dataset:
    """One item a page: user, seconds after START, behaviour."""
    rows = [
        {
            "user_id": user,
            "request_id": f"{user}-{seconds}-{number}",
            "page": number,
            "position": 0,
            "item_id": "i0001",
            "behaviour": behaviour,
            "timestamp": START + timedelta(seconds=seconds),
        }
        for number, (user, seconds, behaviour) in enumerate(pages)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=INTERACTION_SCHEMA), dataset.interactions)
    dataset.write_split(split)
    return dataset


def evaluated(dataset: Dataset) -> list[tuple[str, str]]:
    found = read_held_out(dataset, read_events(dataset))
    return list(zip(found.request_id.to_pylist(), found.split.to_pylist(), strict=True))


def trained(dataset: Dataset) -> list[tuple[str, int]]:
    """User and second after START of each training event."""
    events = read_events(dataset)
    training = events.time < read_held_out(dataset, events).training_end[events.user]
    users = events.user_ids.take(pa.array(events.user[training])).to_pylist()
    return list(zip(users, (events.time[training] - int(START.timestamp())).tolist(), strict=True))


def test_leave_one_out_holds_out_the_last_two_pages_of_each_user(dataset):
    write(dataset, [("a", s, "ordered") for s in (1, 2, 3, 4)] + [("b", 9, "ordered")], LEAVE_ONE_OUT)
    assert evaluated(dataset) == [("a-3-2", "validation"), ("a-4-3", "test")]
    assert trained(dataset) == [("a", 1), ("a", 2), ("b", 9)]


def test_a_training_page_in_the_second_of_a_held_out_page_is_not_learnt(dataset):
    write(dataset, [("a", s, "ordered") for s in (1, 3.2, 3.4, 4)], LEAVE_ONE_OUT)
    assert trained(dataset) == [("a", 1)]


def test_a_time_split_holds_out_pages_from_its_two_moments_on(dataset):
    split = Split(
        kind="time",
        validation_start=START + timedelta(seconds=10),
        test_start=START + timedelta(seconds=20),
    )
    write(dataset, [("a", s, "ordered") for s in (9.9, 10, 19.9, 20)], split)
    assert evaluated(dataset) == [
        ("a-10-1", "validation"),
        ("a-19.9-2", "validation"),
        ("a-20-3", "test"),
    ]


def test_a_page_that_was_only_seen_is_not_evaluated(dataset):
    write(dataset, [("a", s, kind) for s, kind in enumerate(("ordered", "clicked", "exposed"))], LEAVE_ONE_OUT)
    assert evaluated(dataset) == [("a-1-1", "validation")]
    assert trained(dataset) == [("a", 0)]


def test_events_before_a_moment_are_those_of_the_user_in_earlier_seconds(dataset):
    write(dataset, [("a", 1.2, "ordered"), ("a", 1.9, "ordered"), ("b", 0, "ordered")], LEAVE_ONE_OUT)
    events = read_events(dataset)
    second = int(START.timestamp())
    user = np.array([0, 0, 1, 1])
    moment = np.array([second + 1, second + 2, second, second + 10**6])
    assert events.before(user, moment).tolist() == [0, 2, 2, 3]


def test_a_dataset_without_a_table_of_users_has_those_of_the_log(dataset):
    known = read_events(dataset).user_ids
    dataset.users.unlink()
    assert read_events(dataset).user_ids == known


def test_an_empty_log_is_refused_by_name(dataset, tmp_path):
    shutil.copytree(dataset.folder, tmp_path / "empty")
    empty = Dataset(folder=tmp_path / "empty")
    pq.write_table(INTERACTION_SCHEMA.empty_table(), empty.interactions)
    with pytest.raises(ValueError, match=r"interactions.parquet has no rows"):
        read_events(empty)
