"""The recurring pipeline on this machine, from a log to a run that it starts in a stand-in of Kubeflow Pipelines."""

import json
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kfp import local

from nextpage.interactions.log import Dataset
from nextpage.recipes import read_recipe
from nextpage.release import FeatureService, seal
from nextpage.tokenizers.semantic_ids import SemanticIds
from pipelines.monitoring import monitoring
from tests.components.kubeflow_runs import KubeflowPipelines
from tests.synthetic import write_dataset

WEEK = 7 * 86_400
MAP = """interactions: interactions.parquet
columns: {user_id: user_id, item_id: item_id, timestamp: timestamp, value: value, position: position,
          behaviour: {column: behaviour, values: {exposed: exposed, clicked: clicked, ordered: ordered}}}
page: {column: request_id}
items: {path: items.parquet, item_id: item_id, text: [text], attributes: {category: category}}
split: {kind: leave_one_out}
"""


@pytest.fixture
def log(tmp_path: Path) -> Dataset:
    """Sixteen weeks of users with a page a week; in the last four all that they do is click."""
    dataset = write_dataset(tmp_path / "log", users=120)
    moment = "timestamp + to_days((5 * page + hash(user_id) % 7)::int) AS timestamp"
    weekly = f"SELECT * REPLACE ({moment}) FROM '{dataset.interactions}'"
    changed = (
        "CASE WHEN timestamp > (SELECT max(timestamp) - INTERVAL 28 DAY FROM log) THEN 'clicked' ELSE behaviour END"
    )
    rows = duckdb.sql(f"WITH log AS ({weekly}) SELECT * REPLACE ({changed} AS behaviour) FROM log").arrow()
    pq.write_table(pa.table(rows.read_all()), dataset.interactions)
    (dataset.folder / "map.yaml").write_text(MAP)
    return dataset


@pytest.fixture
def release(log: Dataset, tmp_path: Path) -> Path:
    """What was learnt from all but the last four weeks; no model, for nobody here asks for a page."""
    folder = tmp_path / "release"
    folder.mkdir()
    items = pq.read_table(log.items)["item_id"].to_pylist()
    place = np.arange(len(items))
    codes = np.stack([place % 8, place // 25], axis=1)
    SemanticIds.sorted(np.array(items, dtype=object), codes, (8, 8)).write(folder / "semantic_ids.parquet")
    (last,) = duckdb.sql(f"SELECT max(epoch(timestamp))::bigint FROM '{log.interactions}'").fetchall()[0]
    (folder / "features.json").write_text(json.dumps({"log_end": last + 1 - 4 * WEEK}))
    read_recipe("genrec").write(folder / "recipe.yaml")
    seal(folder, name="shop", recipe="genrec", feature_service=FeatureService(name="recommender", hash="f00d"))
    return folder


@pytest.fixture
def kubeflow() -> Iterator[KubeflowPipelines]:
    made = KubeflowPipelines()
    try:
        yield made
    finally:
        made.close()


def test_a_log_that_changed_since_the_release_starts_one_run_that_learns_from_it(
    log: Dataset, release: Path, kubeflow: KubeflowPipelines, tmp_path: Path
) -> None:
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"), raise_on_error=True)
    options = json.dumps({"map": str(log.folder / "map.yaml")})
    monitoring(
        source="columns",
        source_options=options,
        release=str(release),
        settings="monitoring.input_bound=0.12",
        retraining={"release_name": "shop"},
        endpoint=kubeflow.endpoint,
    )
    (run,) = kubeflow.runs
    assert run["display_name"].startswith("retrain: drift of behaviour")
    given = run["parameters"]
    assert (given["source"], given["source_options"], given["release_name"]) == ("columns", options, "shop")
    assert given["recipe"] == read_recipe("genrec").with_settings(["monitoring.input_bound=0.12"]).to_yaml()
    (card,) = tmp_path.glob("root/*/retrain/card")
    assert f"#/runs/details/{run['run_id']}" in card.read_text()
