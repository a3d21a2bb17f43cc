"""A monitor fires on what was planted, says what and by how much, and is quiet between random halves."""

import json
import re
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kfp import dsl
from scipy.special import entr

from components.monitor import component
from components.monitor.config import MonitorConfig
from components.monitor.drift import measure, most_cells
from components.monitor.step import monitor
from components.monitor.windows import Pair, open_log, pairs, time_windows
from nextpage.gates import Verdict
from nextpage.interactions.log import Dataset
from nextpage.recipes import Recipe
from nextpage.tokenizers.semantic_ids import SemanticIds
from tests.components.test_evaluate import evaluation_table, untrained_release
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
        "SELECT request_id, any_value(timestamp) AS time, any_value(item_id) AS bought "
        f"FROM '{log.interactions}' WHERE behaviour = 'ordered' GROUP BY 1 ORDER BY 1"
    ).df()
    late = (requests["time"] >= requests["time"].median()).to_numpy()
    rows = draw.integers(np.where(late, late_items, 200)[:, None], size=(len(requests), 10))
    items = np.char.add("i", np.char.zfill(rows.astype(str), 4)).astype(object)
    hit = np.flatnonzero(draw.random(len(requests)) < np.where(late, late_hits, 0.6))
    items[hit, draw.integers(10, size=len(hit))] = requests["bought"][hit]
    frame = requests[["request_id", "time"]].loc[requests.index.repeat(10)]
    frame = frame.assign(
        position=np.tile(np.arange(10), len(requests)), item_id=items.ravel(), score=draw.normal(size=items.size)
    )
    frame.to_parquet(path)
    return path


def run(
    clean: Path,
    folder: Path,
    config: MonitorConfig | None = None,
    predictions: Path | None = None,
    learnt_until: int | None = None,
) -> tuple[Verdict, Verdict, dict]:
    drift, fitness = monitor(
        clean,
        clean / "semantic_ids.parquet",
        html=folder / "drift.html",
        json=folder / "drift.json",
        card=folder / "drift.md",
        config=config or MonitorConfig(),
        predictions=predictions,
        learnt_until=learnt_until,
    )
    return drift, fitness, json.loads((folder / "drift.json").read_text())


def drifted(record: dict) -> set[tuple[str, str]]:
    return {(finding["kind"], finding["column"]) for finding in record["findings"] if finding["drifted"]}


@pytest.fixture(scope="module")
def quiet_run(quiet_log: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Verdict, Verdict, dict, Path]:
    folder = tmp_path_factory.mktemp("quiet")
    predictions = plant_predictions(quiet_log, folder / "predictions.parquet")
    return *run(quiet_log.folder, folder, predictions=predictions), folder


def test_a_log_without_drift_passes_and_its_random_halves_are_quiet(
    quiet_run: tuple[Verdict, Verdict, dict, Path],
) -> None:
    drift, fitness, record, _ = quiet_run
    assert drift.passed, drift.reasons
    assert fitness.passed, fitness.reasons
    assert {finding["kind"] for finding in record["findings"]} == {"inputs", "occupancy", "predictions", "quality"}
    watched = [(finding["kind"], finding["column"]) for finding in record["findings"]]
    assert watched == [(finding["kind"], finding["column"]) for finding in record["chance"]]
    assert record["unmeasured"] == []


def test_the_page_is_self_contained(quiet_run: tuple[Verdict, Verdict, dict, Path]) -> None:
    page = (quiet_run[3] / "drift.html").read_text()
    assert "code_0" in page
    assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=[\"']?(https?:)?//", page)


def late(column: str, where: str, by: str) -> str:
    """Replace a column's values in the current window, in the rows `where`."""
    return f"CASE WHEN {LAST_QUARTER} AND {where} THEN {by} ELSE {column} END AS {column}"


@pytest.mark.parametrize(
    ("replaced", "moved"),
    [
        (
            [
                late("value", "true", "value * 3"),
                late("behaviour", "true", "'clicked'"),
                late("timestamp", "true", "timestamp - INTERVAL 6 HOUR"),
            ],
            {"value", "behaviour", "hour", "value a page"},
        ),
        (
            [
                late("value", "position % 2 = 0", "NULL"),
                late("item_id", "position % 3 = 0", "'i0000'"),
                late("user_id", "position > 2", "user_id || '-2'"),
            ],
            {"value", "category", "items a user week"},
        ),
    ],
    ids=["dearer, clicked, earlier in the day", "values lost, one item, less a user"],
)
def test_a_shift_of_inputs_is_seen_in_its_columns(
    quiet_log: Dataset, tmp_path: Path, replaced: list[str], moved: set[str]
) -> None:
    planted = plant(quiet_log, tmp_path / "planted", f"* REPLACE ({', '.join(replaced)})")
    drift, fitness, record = run(planted, tmp_path)
    assert not drift.passed
    assert fitness.passed, fitness.reasons
    found = {column for kind, column in drifted(record) if kind == "inputs"}
    assert moved <= found
    assert {"weekday", "pages a user week"}.isdisjoint(found)


def test_a_reason_names_the_column_the_value_and_the_bound(quiet_log: Dataset, tmp_path: Path) -> None:
    select = f"* REPLACE ({late('behaviour', 'true', chr(39) + 'clicked' + chr(39))})"
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


def test_a_rise_of_quality_is_no_drift_and_few_requests_widen_the_bound() -> None:
    draw = np.random.default_rng(0)
    before, better, few = (pd.Series((draw.random(n) < p) * 1.0) for n, p in ((4_000, 0.5), (4_000, 0.8), (40, 0.4)))
    columns = {"better": better, "few": few}
    pairs = [Pair(kind="quality", column=name, reference=before, current=now) for name, now in columns.items()]
    labels = pd.Series(["a", "b"] * 1_000)
    findings = measure(
        [Pair(kind="inputs", column="steady", reference=labels, current=labels), *pairs], MonitorConfig()
    )
    assert [finding.drifted for finding in findings] == [False, False, False]
    assert findings[1].value < -0.5
    assert findings[2].bound > 0.3


def test_a_monitor_that_is_loud_between_random_halves_is_unfit_and_passes_no_drift(
    quiet_log: Dataset, tmp_path: Path
) -> None:
    # Few huge pages of one item each: rows that repeat one another, which no resolution of the cells can bear.
    page = "(4 * page + hash(user_id) % 4)::int"
    select = f"* REPLACE ('r' || {page} AS request_id, 'i' || lpad(({page} * 37 % 200)::varchar, 4, '0') AS item_id)"
    planted = plant(quiet_log, tmp_path / "planted", select)
    drift, fitness, _ = run(planted, tmp_path, MonitorConfig(least_pages=10))
    assert not fitness.passed
    assert not drift.passed
    assert "(A/A)" in fitness.reasons[0]
    assert "bound 0.100" in fitness.reasons[0]


@pytest.mark.parametrize("rows", [600, 6_000, 100_000])
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


def test_chance_stays_within_the_bound_at_the_resolution_that_is_chosen() -> None:
    """Uniform over the chosen cells, the noisiest law: of 200 pairs of independent samples none reaches the bound."""
    draw = np.random.default_rng(0)
    for rows in (600, 3_000):
        rows_of = pd.Series(np.zeros(rows))
        count = most_cells(Pair(kind="inputs", column="x", reference=rows_of, current=rows_of), 0.1)
        p, q = (draw.multinomial(rows, np.full(count, 1 / count), size=200) / rows for _ in range(2))
        middle = (p + q) / 2
        divergence = (entr(middle) - entr(p) / 2 - entr(q) / 2).sum(axis=1)
        assert np.sqrt(divergence).max() < 0.1


def test_a_column_with_too_few_rows_for_its_bound_is_named_and_not_judged(quiet_log: Dataset, tmp_path: Path) -> None:
    _, fitness, record = run(quiet_log.folder, tmp_path, MonitorConfig(input_bound=0.05))
    assert fitness.passed, fitness.reasons
    assert "hour" in record["unmeasured"]
    assert "hour" not in {finding["column"] for finding in record["findings"]}
    assert "Not measured, for too few rows: hour" in (tmp_path / "drift.md").read_text()


def test_the_same_seed_draws_the_same_samples(quiet_log: Dataset) -> None:
    connection = open_log(quiet_log.folder, quiet_log.folder / "semantic_ids.parquet", None)
    drawn = []
    for seed in (0, 0, 1):
        config = MonitorConfig(sample_rows=900, seed=seed)
        drawn.append([pair.current.tolist() for pair in pairs(connection, time_windows(connection, config), config)])
    assert repr(drawn[0]) == repr(drawn[1])
    assert repr(drawn[0]) != repr(drawn[2])


def test_a_window_with_too_few_pages_is_refused(quiet_log: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"current window holds \d+ pages, at least 3000 are needed"):
        run(quiet_log.folder, tmp_path, MonitorConfig(least_pages=3_000))


def end_of(log: Dataset, weeks_before: int = 0) -> int:
    """The first second after the log, or so many weeks before it."""
    (last,) = duckdb.sql(f"SELECT max(epoch(timestamp))::bigint FROM '{log.interactions}'").fetchall()[0]
    return int(last) + 1 - weeks_before * 7 * 86_400


def test_what_came_since_a_release_is_held_against_the_weeks_before_its_end(quiet_log: Dataset, tmp_path: Path) -> None:
    learnt_until = end_of(quiet_log, weeks_before=3)
    drift, fitness, record = run(quiet_log.folder, tmp_path, learnt_until=learnt_until)
    assert drift.passed, drift.reasons
    assert fitness.passed, fitness.reasons
    start, end = (record["windows"][name] for name in ("reference", "current"))
    days = [(pd.Timestamp(window["end"]) - pd.Timestamp(window["start"])).days for window in (start, end)]
    assert 27 <= days[0] <= 28
    assert 20 <= days[1] <= 21
    assert pd.Timestamp(start["end"]).timestamp() < learnt_until <= pd.Timestamp(end["start"]).timestamp()

    select = f"* REPLACE (CASE WHEN epoch(timestamp) >= {learnt_until} THEN 'clicked' ELSE behaviour END AS behaviour)"
    planted = plant(quiet_log, tmp_path / "planted", select)
    assert ("inputs", "behaviour") in drifted(run(planted, tmp_path, learnt_until=learnt_until)[2])
    long_ago = select.replace(f">= {learnt_until}", f"< {learnt_until - 29 * 86_400}")
    planted = plant(quiet_log, tmp_path / "long ago", long_ago)
    assert not drifted(run(planted, tmp_path, learnt_until=learnt_until)[2])  # what the release knew is no drift


def test_a_release_that_has_seen_nearly_all_there_is_gives_no_verdict_that_passes(
    quiet_log: Dataset, tmp_path: Path
) -> None:
    release = tmp_path / "release"
    release.mkdir()
    (release / "features.json").write_text(json.dumps({"log_end": end_of(quiet_log)}))
    (release / "semantic_ids.parquet").write_bytes((quiet_log.folder / "semantic_ids.parquet").read_bytes())
    Recipe(name="test", sections={"monitoring": {}}).write(tmp_path / "recipe")
    names = ("predictions", "page", "card", "findings", "drift", "verdict")
    given: dict[str, dsl.Artifact] = {name: dsl.Artifact(uri=str(tmp_path / name)) for name in names}
    given |= {"tokenizer": dsl.Model(uri=str(release)), "release": dsl.Model(uri=str(release))}
    given |= {"clean": dsl.Dataset(uri=str(quiet_log.folder)), "recipe": dsl.Artifact(uri=str(tmp_path / "recipe"))}
    component.monitor.python_func(metrics=dsl.Metrics(), **given)
    assert not Verdict.read(tmp_path / "drift").passed
    assert not Verdict.read(tmp_path / "verdict").passed
    assert json.loads((tmp_path / "findings").read_text())["findings"] == []
    assert "The current window holds 0 pages, at least 50 are needed" in (tmp_path / "card").read_text()
    (release / "features.json").unlink()
    with pytest.raises(ValueError, match="does not say what it was learnt from"):
        component.monitor.python_func(metrics=dsl.Metrics(), **given)


def test_predictions_without_a_column_are_refused_by_its_name(quiet_log: Dataset, tmp_path: Path) -> None:
    path = plant_predictions(quiet_log, tmp_path / "predictions.parquet")
    pd.read_parquet(path).drop(columns="score").to_parquet(path)
    with pytest.raises(ValueError, match="lack score"):
        run(quiet_log.folder, tmp_path, predictions=path)


def test_the_component_asks_the_release_for_held_out_pages_and_watches_its_answers(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", users=150)
    item_ids = np.array(pq.read_table(dataset.items)["item_id"].to_pylist(), dtype=object)
    place = np.arange(len(item_ids))
    ids = SemanticIds.sorted(item_ids, np.stack([place % 7, place // 16, place % 16], axis=1), sizes=(7, 16, 16))
    recipe = Recipe(name="test", sections={"monitoring": {"predicted_requests": 500}})
    release = untrained_release(ids, recipe, tmp_path / "release")
    features = tmp_path / "features"
    features.mkdir()
    tables = [evaluation_table(dataset, ids, split) for split in ("validation", "test")]
    pq.write_table(pa.concat_tables(tables), features / "evaluation.parquet")
    recipe.write(tmp_path / "recipe")
    names = ("predictions", "page", "card", "findings", "drift", "verdict")
    outputs = {name: dsl.Artifact(uri=str(tmp_path / name)) for name in names}
    metrics = dsl.Metrics(uri=str(tmp_path / "metrics"))
    component.monitor.python_func(
        recipe=dsl.Artifact(uri=str(tmp_path / "recipe")),
        clean=dsl.Dataset(uri=str(dataset.folder)),
        tokenizer=dsl.Model(uri=str(release)),
        release=dsl.Model(uri=str(release)),
        features=dsl.Dataset(uri=str(features)),
        metrics=metrics,
        **outputs,
    )
    predictions = pq.read_table(tmp_path / "predictions").to_pandas()
    assert predictions.groupby("request_id").size().tolist() == [10] * 500
    assert predictions["item_id"].isin(item_ids).all()
    record = json.loads((tmp_path / "findings").read_text())
    assert {"predictions", "quality"} <= {finding["kind"] for finding in record["findings"]}
    assert Verdict.read(tmp_path / "drift").gate == "drift"
    assert Verdict.read(tmp_path / "verdict").passed
    assert metrics.metadata["seconds"] > 0
