"""The run form's `data_engine`: the steps that it reaches find on Spark what they find on DuckDB."""

import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kfp import dsl

from components.features.component import features
from components.validate.component import validate
from nextpage.interactions.log import INTERACTION_SCHEMA, Dataset
from nextpage.recipes import read_recipe
from tests.feature_repo.test_engines import LOCAL_SPARK
from tests.synthetic import write_dataset

pytestmark = pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java, and there is none")

BAD = {
    3: {"item_id": "i\x01"},
    40: {"behaviour": "bought"},
    70: {"position": -1},
    71: {"value": float("nan")},
    500: {"user_id": " "},
}
ENGINES = ("duckdb", "spark")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder an engine, with what both steps left there and the metrics of each."""
    os.environ.setdefault("PYSPARK_SUBMIT_ARGS", LOCAL_SPARK)
    folder = tmp_path_factory.mktemp("house")
    raw = write_dataset(folder / "raw", users=40)
    rows = pq.read_table(raw.interactions).to_pylist()
    spoilt = [row | BAD.get(place, {}) for place, row in enumerate(rows)]
    pq.write_table(pa.Table.from_pylist(spoilt, schema=INTERACTION_SCHEMA), raw.interactions)
    read_recipe("genrec").write(folder / "recipe")
    for engine in ENGINES:
        (folder / engine).mkdir()
        _ran(folder / engine, engine, raw)
    return folder


def _ran(folder: Path, engine: str, raw: Dataset) -> None:
    recipe = dsl.Artifact(uri=str(folder.parent / "recipe"))
    names = ("clean", "quarantine", "docs", "card", "verdict", "features", "figures")
    made: dict[str, Any] = {name: dsl.Artifact(uri=str(folder / name)) for name in names}
    checked, filled = dsl.Metrics(), dsl.Metrics()
    judged = {name: made[name] for name in ("clean", "quarantine", "docs", "card", "verdict")}
    source = dsl.Dataset(uri=str(raw.folder))
    validate.python_func(recipe=recipe, raw=source, metrics=checked, engine=engine, **judged)
    features.python_func(
        recipe=recipe,
        clean=made["clean"],
        features=made["features"],
        card=made["figures"],
        metrics=filled,
        engine=engine,
    )
    assert checked.metadata["interactions_quarantined"] == len(BAD)
    assert filled.metadata["events"] == checked.metadata["interactions_rows"] - len(BAD)


@pytest.mark.parametrize("name", ["clean/interactions", "clean/items", "features/training", "features/evaluation"])
def test_both_engines_leave_the_same_rows(house: Path, name: str) -> None:
    duckdb, spark = (pq.read_table(house / engine / f"{name}.parquet") for engine in ENGINES)
    assert duckdb.num_rows > 30
    assert spark.cast(duckdb.schema).equals(duckdb)


def test_both_engines_set_the_same_rows_aside_for_the_same_reasons(house: Path) -> None:
    duckdb, spark = (pq.read_table(house / engine / "quarantine") for engine in ENGINES)
    assert set(duckdb["row"].to_pylist()) == set(BAD)
    assert spark.drop_columns("value").equals(duckdb.drop_columns("value"))  # one is NaN, which equals nothing
    here, there = ((house / engine / "card").read_text() for engine in ENGINES)
    assert here.startswith("# Data quality: passed")
    assert there == here


def test_it_was_spark_that_did_it(house: Path) -> None:
    assert (house / "spark/features/training.parquet").is_dir()
    assert (house / "duckdb/features/training.parquet").is_file()
