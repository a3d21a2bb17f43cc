import copy
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from nextpage.interactions.loaders import Source, load
from nextpage.interactions.log import INTERACTION_SCHEMA, Dataset

LOG = """customer,sku,event,when,request,slot,price,shop
anna,s1,buy,2024-01-01 10:00:00,r1,1,2.5,north
anna,s2,view,2024-01-01 10:00:00,r1,0,,north
anna,s3,buy,2024-01-02 10:00:00,r2,0,4,north
ben,s1,click,2024-01-03T12:00:00+02:00,r3,0,,south
"""
ITEMS = 'sku,title,brand,group\ns1,"milk, fresh",Alpha,dairy\ns2,bread,,bakery\ns3,tea,Gamma,drinks\n'
USERS = "customer,age\nanna,30\nben,\n"
MAP: dict[str, Any] = {
    "interactions": "log.csv",
    "columns": {
        "user_id": "customer",
        "item_id": "sku",
        "timestamp": "when",
        "behaviour": {"column": "event", "values": {"view": "exposed", "click": "clicked", "buy": "ordered"}},
        "value": "price",
        "scenario": "shop",
        "position": "slot",
    },
    "page": {"column": "request"},
    "items": {"path": "items.csv", "item_id": "sku", "text": ["title", "brand"], "attributes": {"category": "group"}},
    "users": {"path": "users.csv", "user_id": "customer", "attributes": ["age"]},
    "split": {"kind": "time", "validation_start": "2024-01-02", "test_start": "2024-01-03"},
}

Change = Callable[[dict[str, Any]], object]


def mapped(tmp_path: Path, change: Change = lambda wanted: None, *, log: str = LOG, **options: object) -> Dataset:
    (tmp_path / "log.csv").write_text(log)
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "users.csv").write_text(USERS)
    wanted = copy.deepcopy(MAP)
    change(wanted)
    (tmp_path / "map.yaml").write_text(yaml.safe_dump(wanted))
    return load(Source(name="columns", options={"map": str(tmp_path / "map.yaml")} | options), tmp_path / "out")


def test_a_map_says_which_column_is_what(tmp_path: Path) -> None:
    dataset = mapped(tmp_path)
    log = pq.read_table(dataset.interactions)
    assert log.schema.equals(INTERACTION_SCHEMA)
    assert [tuple(row.values()) for row in log.to_pylist()] == [
        ("anna", "r1", 0, 0, "s2", "exposed", datetime(2024, 1, 1, 10, tzinfo=UTC), None, "north"),
        ("anna", "r1", 0, 1, "s1", "ordered", datetime(2024, 1, 1, 10, tzinfo=UTC), 2.5, "north"),
        ("anna", "r2", 1, 0, "s3", "ordered", datetime(2024, 1, 2, 10, tzinfo=UTC), 4.0, "north"),
        ("ben", "r3", 0, 0, "s1", "clicked", datetime(2024, 1, 3, 10, tzinfo=UTC), None, "south"),
    ]
    assert pq.read_table(dataset.items).to_pylist() == [
        {"item_id": "s1", "text": "milk, fresh Alpha", "category": "dairy"},
        {"item_id": "s2", "text": "bread", "category": "bakery"},
        {"item_id": "s3", "text": "tea Gamma", "category": "drinks"},
    ]
    assert pq.read_table(dataset.users).to_pylist() == [
        {"user_id": "anna", "age": "30"},
        {"user_id": "ben", "age": None},
    ]
    assert dataset.split().validation_start == datetime(2024, 1, 2, tzinfo=UTC)


def test_the_least_map_takes_everything_from_the_log(tmp_path: Path) -> None:
    def least(wanted: dict[str, Any]) -> None:
        wanted.pop("items"), wanted.pop("users")
        wanted["columns"] = {key: wanted["columns"][key] for key in ("user_id", "item_id", "timestamp")}
        wanted |= {"page": {"session_minutes": 24 * 60}, "split": {"kind": "leave_one_out"}}

    dataset = mapped(tmp_path, least)
    log = pq.read_table(dataset.interactions).to_pylist()
    assert [(row["user_id"], row["page"], row["item_id"]) for row in log] == [
        ("anna", 0, "s1"),
        ("anna", 0, "s2"),
        ("anna", 0, "s3"),
        ("ben", 0, "s1"),
    ]
    assert {row["behaviour"] for row in log} == {"ordered"}
    assert pq.read_table(dataset.items)["text"].to_pylist() == ["s1", "s2", "s3"]
    assert pq.read_table(dataset.users)["user_id"].to_pylist() == ["anna", "ben"]


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 1_000), ("us", 1_000_000)])
def test_parquet_and_times_as_numbers_are_read(tmp_path: Path, unit: str, factor: int) -> None:
    table = pa.table({"customer": [7], "sku": [1], "event": ["buy"], "when": [1_704_067_200 * factor]})
    pq.write_table(table, tmp_path / "log.parquet")

    def parquet(wanted: dict[str, Any]) -> None:
        wanted["interactions"] = "*.parquet"
        for key in ("value", "scenario", "position"):
            wanted["columns"].pop(key)
        wanted["page"] = {"session_minutes": 30}

    [row] = pq.read_table(mapped(tmp_path, parquet, time_unit=unit).interactions).to_pylist()
    assert (row["user_id"], row["item_id"]) == ("7", "1")
    assert row["timestamp"] == datetime(2024, 1, 1, tzinfo=UTC)


def test_rows_that_do_not_fit_pass_through_for_the_validation_to_judge(tmp_path: Path) -> None:
    bad = LOG + "carl,s1,gaze,yesterday,r4,0,1,north\n,s2,buy,2024-01-01 10:00:00,r5,0,,north\n"
    log = pq.read_table(mapped(tmp_path, log=bad).interactions)
    assert log.num_rows == 6
    [carl] = [row for row in log.to_pylist() if row["user_id"] == "carl"]
    assert (carl["behaviour"], carl["timestamp"]) == ("gaze", None)
    assert log.schema.field("user_id").nullable
    assert log.schema.field("timestamp").nullable
    assert not log.schema.field("item_id").nullable


def put(section: str, value: object) -> Change:
    """A change of the map at a dotted key."""

    def change(wanted: dict[str, Any]) -> None:
        *path, last = section.split(".")
        for key in path:
            wanted = wanted[key]
        wanted[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            put("columns.item_id", "product"),
            r"column 'product' \(columns.item_id\) is not in log.csv, which has customer, sku.*"
            r"correct columns.item_id in map.yaml",
        ),
        (put("columns.value", "cost"), r"column 'cost' \(columns.value\) is not in log.csv"),
        (put("page.column", "visit"), r"column 'visit' \(page.column\) is not in log.csv"),
        (put("items.text", ["name"]), r"column 'name' \(items.text\) is not in items.csv, which has sku, title"),
        (put("items.attributes", {"c": "kind"}), r"column 'kind' \(items.attributes\) is not in items.csv"),
        (put("users.user_id", "id"), r"column 'id' \(users.user_id\) is not in users.csv"),
        (put("columns.timestamp", "shop"), r"column 'shop' \(columns.timestamp\) of log.csv holds no time"),
        (
            put("columns.behaviour", "event"),
            r"no behaviour of log.csv is one of exposed, clicked, ordered, it has .*'buy'.*columns.behaviour.values",
        ),
        (
            put("columns.behaviour.values", {"buy": "bought"}),
            r"value 'buy' of column 'event' is mapped to 'bought'.*use one of exposed, clicked, ordered",
        ),
        (put("columns.behaviour", {"always": "bought"}), r"behaviour 'bought' \(columns.behaviour.always\)"),
        (put("columns.price", "price"), r"key 'columns.price' in map.yaml is unknown: use one of user_id"),
        (put("page.session_minutes", 30), r"page in map.yaml must hold one of column, session_minutes"),
        (put("page", "request"), r"page in map.yaml is 'request': it must hold column, session_minutes"),
        (put("split", {}), r"key 'split.kind' is missing in map.yaml"),
        (put("split.kind", "random"), r"split kind 'random' is unknown"),
        (put("split.test_start", "soon"), r"split.test_start in map.yaml is 'soon'"),
        (put("split.test_start", "2024-01-01"), r"must lie before test_start"),
        (put("interactions", "log.json"), r"log.json is missing: correct interactions in map.yaml"),
        (put("items.path", "map.yaml"), r"map.yaml is neither Parquet nor CSV"),
    ],
)
def test_a_map_that_does_not_fit_is_refused_with_its_column_and_the_remedy(
    tmp_path: Path, change: Change, message: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        mapped(tmp_path, change)


def test_an_unknown_unit_of_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="time_unit 'h' is unknown: use one of s, ms, us"):
        mapped(tmp_path, time_unit="h")


def test_odd_names_and_values_are_data_and_never_sql(tmp_path: Path) -> None:
    log = LOG.replace("event", "ev\"ent's").replace("buy", "it's; drop table events")

    def odd(wanted: dict[str, Any]) -> None:
        wanted["columns"]["behaviour"] = {"column": "ev\"ent's", "values": {"it's; drop table events": "ordered"}}

    behaviours = pq.read_table(mapped(tmp_path, odd, log=log).interactions)["behaviour"].to_pylist()
    assert behaviours.count("ordered") == 2
