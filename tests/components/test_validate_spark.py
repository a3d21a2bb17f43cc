import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.validate import facts
from components.validate.bounds import ValidationBounds
from components.validate.expectations import Finding, check
from components.validate.spark_facts import row_facts
from feature_repo.engines import spark_session
from tests.feature_repo.test_engines import LOCAL_SPARK

pytestmark = pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java, and there is none")

BAD = {
    3: (None, "no id"),
    10: (" ", "blank id"),
    40: ("a\x01b", "control"),
    41: ("i41", "te\x00xt"),
    50: ("i50 ", "pad"),
}
PARAMETERS = ValidationBounds().suite_parameters() | {"now": 0.0}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty items, five of them with a fault each."""
    rows = [BAD.get(row, (f"i{row}", f"item {row}")) for row in range(60)]
    table = pa.table({"item_id": [item for item, _ in rows], "text": [text for _, text in rows]})
    path = tmp_path_factory.mktemp("items") / "items.parquet"
    pq.write_table(table, path)
    return path


def found(findings: tuple[Finding, ...]) -> dict[str, tuple[list[int], bool, str]]:
    return {one.fault: (one.rows.tolist(), one.passed, one.value()) for one in findings}


def test_the_suites_find_the_same_rows_on_spark_as_on_one_machine(path):
    os.environ.setdefault("PYSPARK_SUBMIT_ARGS", LOCAL_SPARK)
    items = facts.read_columns(path, text=("item_id", "text"))
    here = check(facts.item_row_facts(items), table="items", stage="row", parameters=PARAMETERS)
    schema = pa.schema([("item_id", pa.string()), ("text", pa.string())])
    frame = row_facts(spark_session(), path, facts.item_row_facts, schema).cache()
    there = check(frame, table="items", stage="row", parameters=PARAMETERS)
    assert found(there) == found(here)
    assert np.unique(np.concatenate([one.rows for one in there])).tolist() == sorted(BAD)
