import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.engines import DuckDB, open_engine
from feature_repo.events import held_out, read_source, slices, user_logs
from feature_repo.snapshots import histories
from nextpage.interactions.log import INTERACTION_SCHEMA, Dataset, Split
from nextpage.interactions.slices import FeaturesConfig
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


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[DuckDB]:
    with open_engine("duckdb", tmp_path) as opened:
        yield opened


def evaluated(dataset: Dataset, engine: DuckDB) -> list[tuple[str, str]]:
    held = held_out(read_source(dataset, engine))
    return engine.rows(held.filter("positive").order_by("user_id", "page").select("request_id", "split"))


def trained(dataset: Dataset, engine: DuckDB) -> list[tuple[str, int]]:
    """User and second after START of each training event: those that lie in a slice."""
    source = read_source(dataset, engine)
    logs = user_logs(source)
    learnt = slices(logs, held_out(source), source.end, FeaturesConfig(stride=1))
    found = learnt.inner_join(logs.select("user_id", time=logs.time.unnest()), "user_id")
    found = found.filter(found.time >= found.target_from, found.time < found.as_of).order_by("user_id", "time")
    return engine.rows(found.select("user_id", second=found.time - int(START.timestamp())))


def test_leave_one_out_holds_out_the_last_two_pages_of_each_user(dataset, engine):
    write(dataset, [("a", s, "ordered") for s in (1, 2, 3, 4)] + [("b", 9, "ordered")], LEAVE_ONE_OUT)
    assert evaluated(dataset, engine) == [("a-3-2", "validation"), ("a-4-3", "test")]
    assert trained(dataset, engine) == [("a", 1), ("a", 2), ("b", 9)]


def test_a_training_page_in_the_second_of_a_held_out_page_is_not_learnt(dataset, engine):
    write(dataset, [("a", s, "ordered") for s in (1, 3.2, 3.4, 4)], LEAVE_ONE_OUT)
    assert trained(dataset, engine) == [("a", 1)]


def test_a_time_split_holds_out_pages_from_its_two_moments_on(dataset, engine):
    split = Split(
        kind="time",
        validation_start=START + timedelta(seconds=10),
        test_start=START + timedelta(seconds=20),
    )
    write(dataset, [("a", s, "ordered") for s in (9.9, 10, 19.9, 20)], split)
    assert evaluated(dataset, engine) == [
        ("a-10-1", "validation"),
        ("a-19.9-2", "validation"),
        ("a-20-3", "test"),
    ]


def test_a_page_that_was_only_seen_is_not_evaluated(dataset, engine):
    write(dataset, [("a", s, kind) for s, kind in enumerate(("ordered", "clicked", "exposed"))], LEAVE_ONE_OUT)
    assert evaluated(dataset, engine) == [("a-1-1", "validation")]
    assert trained(dataset, engine) == [("a", 0)]


def test_events_before_a_moment_are_those_of_the_user_in_earlier_seconds(dataset, engine, tmp_path):
    write(dataset, [("a", 1.2, "ordered"), ("a", 1.9, "ordered"), ("b", 0, "ordered")], LEAVE_ONE_OUT)
    logs = user_logs(read_source(dataset, engine))
    second = int(START.timestamp())
    asked = {"user_id": ["a", "a", "b", "b"], "moment": [second + 1, second + 2, second, second + 10**6]}
    pq.write_table(pa.table(asked), tmp_path / "asked.parquet")
    found = histories(engine.read(tmp_path / "asked.parquet"), logs, last=9).order_by("user_id", "event_timestamp")
    assert engine.rows(found.select(found.history_time.length())) == [(0,), (2,), (0,), (1,)]


def test_a_dataset_without_a_table_of_users_has_those_of_the_log(dataset, engine):
    known = engine.rows(user_logs(read_source(dataset, engine)).select("user_id").order_by("user_id"))
    dataset.users.unlink()
    assert engine.rows(user_logs(read_source(dataset, engine)).select("user_id").order_by("user_id")) == known


def test_an_empty_log_is_refused_by_name(dataset, engine, tmp_path):
    shutil.copytree(dataset.folder, tmp_path / "empty")
    empty = Dataset(folder=tmp_path / "empty")
    pq.write_table(INTERACTION_SCHEMA.empty_table(), empty.interactions)
    with pytest.raises(ValueError, match=r"interactions.parquet has no rows"):
        read_source(empty, engine)


def test_an_unknown_engine_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'abacus' is unknown: use duckdb or spark"), open_engine("abacus", tmp_path):
        pass
