"""A monitor fires on what was planted, says what and by how much, and is quiet between random halves."""

import json
import re
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from components.monitor.config import MonitorConfig
from components.monitor.drift import measure
from components.monitor.step import monitor
from components.monitor.windows import Pair
from nextpage.gates import Verdict
from nextpage.interactions.log import Dataset
from nextpage.tokenizers.semantic_ids import SemanticIds
from tests.synthetic import write_dataset

LAST_QUARTER = "timestamp > (SELECT max(timestamp) - (max(timestamp) - min(timestamp)) / 4 FROM log)"
"""The current window of a log shorter than both windows."""


@pytest.fixture(scope="module")
def quiet_log(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Nothing planted: 300 users whose habits do not change, each with one page a week on a day of their own."""
    dataset = write_dataset(tmp_path_factory.mktemp("log"), users=300)
    weekly = duckdb.sql(
        "SELECT * REPLACE (timestamp + to_days((5 * page + hash(user_id) % 7)::int) AS timestamp) "
        f"FROM '{dataset.interactions}'"
    ).arrow()
    pq.write_table(weekly.read_all(), dataset.interactions)
    items = duckdb.sql(f"SELECT item_id FROM '{dataset.items}' ORDER BY 1").df()["item_id"].to_numpy()
    codes = np.stack([np.arange(len(items)) % 8, np.arange(len(items)) // 25], axis=1)
    SemanticIds.sorted(items, codes, (8, 8)).write(dataset.folder / "semantic_ids.parquet")
    return dataset


def plant(log: Dataset, folder: Path, select: str) -> Path:
    """A copy of the log whose interactions are `SELECT select FROM log`."""
    folder.mkdir()
    for name in ("items.parquet", "semantic_ids.parquet"):
        (folder / name).write_bytes((log.folder / name).read_bytes())
    connection = duckdb.connect()
    connection.execute(f"CREATE TABLE log AS FROM '{log.interactions}'")
    connection.execute(f"COPY (SELECT {select} FROM log) TO '{folder / 'interactions.parquet'}'")
    return folder


def plant_predictions(log: Dataset, path: Path, *, late_items: int = 200, late_hits: float = 0.6) -> Path:
    """Ten items a request, a true one among them in six of ten; the later half may draw on fewer items or hit less."""
    draw = np.random.default_rng(1)
    requests = duckdb.sql(
        "SELECT request_id, any_value(timestamp) AS timestamp, any_value(item_id) AS bought "
        f"FROM '{log.interactions}' WHERE behaviour = 'ordered' GROUP BY 1 ORDER BY 1"
    ).df()
    late = requests["timestamp"] >= requests["timestamp"].median()
    frames = []
    for request, is_late in zip(requests.itertuples(), late, strict=True):
        items = [f"i{row:04d}" for row in draw.integers(late_items if is_late else 200, size=10)]
        if draw.random() < (late_hits if is_late else 0.6):
            items[int(draw.integers(10))] = request.bought
        frames.append(
            pd.DataFrame(
                {
                    "request_id": request.request_id,
                    "timestamp": request.timestamp,
                    "position": range(10),
                    "item_id": items,
                    "score": draw.normal(size=10),
                }
            )
        )
    pd.concat(frames).to_parquet(path)
    return path


def run(
    clean: Path, folder: Path, config: MonitorConfig | None = None, predictions: Path | None = None
) -> tuple[Verdict, Verdict, dict]:
    drift, fitness = monitor(
        clean,
        clean / "semantic_ids.parquet",
        html=folder / "drift.html",
        json=folder / "drift.json",
        card=folder / "drift.md",
        config=config or MonitorConfig(),
        predictions=predictions,
    )
    return drift, fitness, json.loads((folder / "drift.json").read_text())


def drifted(record: dict) -> set[tuple[str, str]]:
    return {(finding["kind"], finding["column"]) for finding in record["findings"] if finding["drifted"]}


def test_a_log_without_drift_passes_and_its_random_halves_are_quiet(quiet_log: Dataset, tmp_path: Path) -> None:
    predictions = plant_predictions(quiet_log, tmp_path / "predictions.parquet")
    drift, fitness, record = run(quiet_log.folder, tmp_path, predictions=predictions)
    assert drift.passed, drift.reasons
    assert fitness.passed, fitness.reasons
    assert {finding["kind"] for finding in record["findings"]} == {"inputs", "occupancy", "predictions", "quality"}
    watched = [(finding["kind"], finding["column"]) for finding in record["findings"]]
    assert watched == [(finding["kind"], finding["column"]) for finding in record["chance"]]


@pytest.mark.parametrize(
    ("column", "replaced", "where", "by"),
    [
        ("value", "value", "true", "value * 3"),
        ("value", "value", "position % 2 = 0", "NULL"),
        ("behaviour", "behaviour", "true", "'clicked'"),
        ("hour", "timestamp", "true", "timestamp - INTERVAL 6 HOUR"),
        ("items a user week", "user_id", "position > 2", "user_id || '-2'"),
        ("category", "item_id", "position % 3 = 0", "'i0000'"),
    ],
    ids=["dearer", "values lost", "behaviour", "earlier in the day", "less a user", "category"],
)
def test_a_shift_of_inputs_is_seen_in_its_column(
    quiet_log: Dataset, tmp_path: Path, column: str, replaced: str, where: str, by: str
) -> None:
    select = f"* REPLACE (CASE WHEN {LAST_QUARTER} AND {where} THEN {by} ELSE {replaced} END AS {replaced})"
    drift, fitness, record = run(plant(quiet_log, tmp_path / "planted", select), tmp_path)
    assert not drift.passed
    assert fitness.passed, fitness.reasons
    assert ("inputs", column) in drifted(record)


def test_a_reason_names_the_column_the_value_and_the_bound(quiet_log: Dataset, tmp_path: Path) -> None:
    select = f"* REPLACE (CASE WHEN {LAST_QUARTER} THEN 'clicked' ELSE behaviour END AS behaviour)"
    drift, _, record = run(plant(quiet_log, tmp_path / "planted", select), tmp_path)
    (finding,) = [finding for finding in record["findings"] if finding["column"] == "behaviour"]
    sentence = f"inputs: behaviour moved by a Jensen–Shannon distance of {finding['value']:.3f}, bound 0.100"
    assert sentence in drift.reasons
    assert f"| inputs | behaviour | {finding['value']:.3f} |" in (tmp_path / "drift.md").read_text()


def test_codes_that_gather_on_one_item_are_drift_of_occupancy(quiet_log: Dataset, tmp_path: Path) -> None:
    select = f"* REPLACE (CASE WHEN {LAST_QUARTER} AND position % 2 = 0 THEN 'i0199' ELSE item_id END AS item_id)"
    _, fitness, record = run(plant(quiet_log, tmp_path / "planted", select), tmp_path)
    assert fitness.passed
    assert {("occupancy", "code_0"), ("occupancy", "code_1")} <= drifted(record)


def test_items_that_the_tokenizer_does_not_know_are_drift_of_occupancy(quiet_log: Dataset, tmp_path: Path) -> None:
    select = f"* REPLACE (CASE WHEN {LAST_QUARTER} AND position = 1 THEN 'new' ELSE item_id END AS item_id)"
    _, _, record = run(plant(quiet_log, tmp_path / "planted", select), tmp_path)
    assert ("occupancy", "code_0") in drifted(record)


def test_predictions_that_gather_on_few_items_are_drift_of_predictions_only(quiet_log: Dataset, tmp_path: Path) -> None:
    predictions = plant_predictions(quiet_log, tmp_path / "predictions.parquet", late_items=20)
    drift, fitness, record = run(quiet_log.folder, tmp_path, predictions=predictions)
    assert not drift.passed
    assert fitness.passed, fitness.reasons
    assert ("predictions", "predicted popularity") in drifted(record)
    assert {"inputs", "occupancy"}.isdisjoint(kind for kind, _ in drifted(record))


def test_a_fall_of_the_hit_rate_is_drift_of_quality_only(quiet_log: Dataset, tmp_path: Path) -> None:
    predictions = plant_predictions(quiet_log, tmp_path / "predictions.parquet", late_hits=0.4)
    drift, _, record = run(quiet_log.folder, tmp_path, predictions=predictions)
    assert drifted(record) == {("quality", "HR@10"), ("quality", "MRR")}
    assert any(reason.startswith("quality: HR@10 moved by a relative drop of 0.") for reason in drift.reasons)


def test_a_rise_of_the_hit_rate_is_no_drift(quiet_log: Dataset, tmp_path: Path) -> None:
    predictions = plant_predictions(quiet_log, tmp_path / "predictions.parquet", late_hits=0.9)
    drift, _, _ = run(quiet_log.folder, tmp_path, predictions=predictions)
    assert drift.passed, drift.reasons


def test_a_monitor_that_is_loud_between_random_halves_is_unfit_and_passes_no_drift(
    quiet_log: Dataset, tmp_path: Path
) -> None:
    # Two cells at least are kept, so a bound of a thousandth is below the noise of any window this small.
    config = MonitorConfig(input_bound=0.001, occupancy_bound=0.001)
    drift, fitness, _ = run(quiet_log.folder, tmp_path, config)
    assert not fitness.passed
    assert not drift.passed
    assert "(A/A)" in fitness.reasons[0]
    assert "bound 0.001" in fitness.reasons[0]


@pytest.mark.parametrize("rows", [300, 3_000, 100_000])
def test_one_bound_serves_windows_of_any_size(rows: int) -> None:
    """A thousand values, Zipf: quiet between samples of one law, loud when a quarter of the mass moves."""
    draw = np.random.default_rng(0)
    law = 1 / np.arange(1, 1001)
    law /= law.sum()
    values = [pd.Series(draw.choice(1000, size=rows, p=law).astype(str)) for _ in range(3)]
    values[2][draw.random(rows) < 0.25] = "0"
    steady = Pair(kind="inputs", column="steady", reference=values[0], current=values[1])
    moved = Pair(kind="inputs", column="moved", reference=values[0], current=values[2])
    findings = measure([steady, moved], MonitorConfig())
    assert [finding.drifted for finding in findings] == [False, True]


def test_the_page_is_self_contained(quiet_log: Dataset, tmp_path: Path) -> None:
    run(quiet_log.folder, tmp_path)
    page = (tmp_path / "drift.html").read_text()
    assert "code_0" in page
    assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=[\"']?(https?:)?//", page)


def test_the_same_seed_gives_the_same_findings(quiet_log: Dataset, tmp_path: Path) -> None:
    records = [run(quiet_log.folder, tmp_path, MonitorConfig(sample_rows=900))[2] for _ in range(2)]
    assert records[0] == records[1]


def test_a_window_with_too_few_pages_is_refused(quiet_log: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"current window holds \d+ pages, at least 3000 are needed"):
        run(quiet_log.folder, tmp_path, MonitorConfig(least_pages=3_000))


def test_predictions_without_a_column_are_refused_by_its_name(quiet_log: Dataset, tmp_path: Path) -> None:
    path = plant_predictions(quiet_log, tmp_path / "predictions.parquet")
    pd.read_parquet(path).drop(columns="score").to_parquet(path)
    with pytest.raises(ValueError, match="lack score"):
        run(quiet_log.folder, tmp_path, predictions=path)
