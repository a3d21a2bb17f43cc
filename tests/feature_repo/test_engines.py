"""DuckDB and Spark give the same rows: the whole features step on 100,000 events, on both engines."""

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.features.step import build_features
from feature_repo.engines import DuckDB, Spark, open_engine
from feature_repo.online import OnlineFeatures
from nextpage.interactions.log import BEHAVIOURS, INTERACTION_SCHEMA, Dataset, Split
from nextpage.interactions.slices import FeaturesConfig
from nextpage.interactions.splits import pages
from tests.synthetic import START

pytestmark = pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java, and there is none")

CONFIG = FeaturesConfig(events=128, stride=96)
USERS, PAGES, PAGE_ITEMS, ITEMS = 400, 50, 5, 300
MICROSECOND = 1_000_000
LOCAL_SPARK = (
    "--master local[1] --driver-memory 1g --conf spark.ui.enabled=false --conf spark.sql.shuffle.partitions=1 "
    "--conf spark.driver.host=127.0.0.1 --conf spark.driver.bindAddress=127.0.0.1 pyspark-shell"
)


def write_log(folder: Path) -> Dataset:
    """100,000 events: moments between seconds, pages of one second, a user and an item that are only described."""
    draw = np.random.default_rng(0)
    folder.mkdir()
    dataset = Dataset(folder=folder)
    user = np.repeat(np.arange(USERS), PAGES * PAGE_ITEMS)
    page = np.tile(np.repeat(np.arange(PAGES), PAGE_ITEMS), USERS)
    moment = np.cumsum(draw.integers(200_000, 9 * 3_600 * MICROSECOND, size=(USERS, PAGES)), axis=1)
    moment[:, 1] = moment[:, 0] + 200_000
    start = int(START.timestamp()) * MICROSECOND
    columns = {
        "user_id": [f"ü{row:03d}" for row in user],
        "request_id": [f"{row}-{number}" for row, number in zip(user, page, strict=True)],
        "page": page,
        "position": np.tile(np.arange(PAGE_ITEMS), USERS * PAGES),
        "item_id": [f"i{row:04d}" for row in draw.integers(ITEMS, size=len(user))],
        "behaviour": np.array(BEHAVIOURS)[draw.choice(3, size=len(user), p=[0.6, 0.2, 0.2])],
        "timestamp": pa.array(start + moment[user, page]).cast(pa.timestamp("us", tz="UTC")),
        "value": draw.random(len(user)),
        "scenario": pa.nulls(len(user), pa.string()),
    }
    pq.write_table(pa.table(columns, schema=INTERACTION_SCHEMA), dataset.interactions)
    pq.write_table(pa.table({"user_id": ["ü000", "idle"], "age": ["25-34", None]}), dataset.users)
    pq.write_table(pa.table({"item_id": ["i0000", "unsold"], "text": ["milk", "soap"]}), dataset.items)
    ends = np.quantile(moment, [0.85, 0.92]) // MICROSECOND + int(START.timestamp())
    validation, test = (START.fromtimestamp(int(end), START.tzinfo) for end in ends)
    dataset.write_split(Split(kind="time", validation_start=validation, test_start=test))
    return dataset


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset, and beside it the features folders `duckdb` and `spark`."""
    os.environ.setdefault("PYSPARK_SUBMIT_ARGS", LOCAL_SPARK)
    folder = tmp_path_factory.mktemp("engines")
    dataset = write_log(folder / "dataset")
    for engine in ("duckdb", "spark"):
        build_features(dataset.folder, folder / engine, CONFIG, engine=engine)
    return folder


@pytest.mark.parametrize("name", ["history", "user_profile", "item_profile", "training", "evaluation"])
def test_both_engines_write_the_same_rows(house, name):
    duckdb, spark = (pq.read_table(house / engine / f"{name}.parquet") for engine in ("duckdb", "spark"))
    assert duckdb.num_rows > 300
    assert spark.cast(duckdb.schema).equals(duckdb)


def test_both_engines_report_the_same_figures(house):
    duckdb, spark = ((house / engine / "features.json").read_text() for engine in ("duckdb", "spark"))
    assert spark == duckdb
    assert '"events": 100000' in duckdb


@pytest.mark.parametrize("user", ["ü000", "ü399", "idle"])
def test_both_engines_put_the_same_histories_online(house, user):
    duckdb, spark = (OnlineFeatures(house / engine, version="dev") for engine in ("duckdb", "spark"))
    assert spark.history(user) == duckdb.history(user)
    assert spark.user_profile(user) == duckdb.user_profile(user)


def test_both_engines_leave_the_same_pages_out(house, tmp_path):
    def divided(engine: DuckDB | Spark) -> list[tuple]:
        log = engine.read(house / "dataset" / "interactions.parquet")
        found = pages(log, Split(kind="leave_one_out"))
        return engine.rows(found.select("user_id", "request_id", "split").order_by("user_id", "request_id"))

    with open_engine("duckdb", tmp_path) as duckdb, open_engine("spark", tmp_path) as spark:
        found = divided(spark)
        assert found == divided(duckdb)
    assert sum(split == "test" for *_, split in found) == USERS
