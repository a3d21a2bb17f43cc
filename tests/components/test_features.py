import json
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kfp import dsl

from components.features.component import features as features_component
from components.features.step import build_features
from nextpage.interactions.log import BEHAVIOURS, INTERACTION_SCHEMA, Dataset
from nextpage.interactions.sequences import sequences_from_table
from nextpage.interactions.slices import FeaturesConfig
from nextpage.recipes import read_recipe
from tests.synthetic import START, write_dataset

EVERYTHING = FeaturesConfig(events=512, stride=12)
Row = dict[str, object]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return write_dataset(tmp_path / "dataset", users=6, items=40)


def build(dataset: Dataset, folder: Path, config: FeaturesConfig = EVERYTHING) -> dict[str, list[Row]]:
    build_features(dataset.folder, folder, config)
    return {name: pq.read_table(folder / f"{name}.parquet").to_pylist() for name in ("training", "evaluation")}


def log_of(dataset: Dataset) -> list[Row]:
    return pq.read_table(dataset.interactions).to_pylist()


def rewrite(dataset: Dataset, log: list[Row]) -> None:
    pq.write_table(pa.Table.from_pylist(log, schema=INTERACTION_SCHEMA), dataset.interactions)


def history_of(row: Row) -> list[tuple]:
    names = ("item", "behaviour", "page", "time")
    return list(zip(*(row[f"history_{name}"] for name in names), strict=True))


def expected_history(log: list[Row], row: Row, events: int) -> list[tuple]:
    own = [event for event in log if event["user_id"] == row["user_id"] and event["timestamp"] < row["as_of"]]
    own.sort(key=lambda event: (event["timestamp"], event["page"], event["position"]))
    return [
        (e["item_id"], BEHAVIOURS.index(e["behaviour"]), e["page"], int(e["timestamp"].timestamp()))
        for e in own[-events:]
    ]


def test_every_row_holds_exactly_the_last_events_before_its_moment(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("components.features.step.ROWS_AT_ONCE", 11)
    monkeypatch.setattr("feature_repo.retrieval.ROWS_AT_ONCE", 17)
    rows = build(dataset, tmp_path / "features", FeaturesConfig(events=20, stride=12))
    log = log_of(dataset)
    assert len(rows["evaluation"]) == 6 * 4
    for row in rows["training"] + rows["evaluation"]:
        assert history_of(row) == expected_history(log, row, 20)
    for table in rows.values():
        assert table == sorted(table, key=lambda row: (row["user_id"], row["as_of"]))


def test_training_targets_are_the_pages_before_validation_each_once(dataset, tmp_path):
    rows = build(dataset, tmp_path / "features")["training"]
    start = dataset.split().validation_start
    learnt = sorted(
        (row["user_id"], page)
        for row in rows
        for page in {e[2] for e in history_of(row) if e[3] >= row["target_from"].timestamp()}
    )
    assert learnt == sorted({(e["user_id"], e["page"]) for e in log_of(dataset) if e["timestamp"] < start})
    assert all(row["as_of"] <= start for row in rows)


def test_evaluation_rows_are_the_held_out_pages_as_of_their_request(dataset, tmp_path):
    rows = build(dataset, tmp_path / "features")["evaluation"]
    pages = {e["request_id"]: e for e in log_of(dataset)}
    assert {row["split"] for row in rows} == {"validation", "test"}
    for row in rows:
        page = pages[row["request_id"]]
        assert (row["user_id"], row["as_of"]) == (page["user_id"], page["timestamp"])
        assert (row["split"] == "test") == (page["timestamp"] >= dataset.split().test_start)


def test_a_planted_event_is_unknown_to_every_row_before_it(dataset, tmp_path):
    before = build(dataset, tmp_path / "before")
    poison = START + timedelta(days=2 * 9 + 1, hours=18, minutes=30)
    log = log_of(dataset)
    planted = {
        **log[0],
        "user_id": "u002",
        "request_id": "p",
        "page": 99,
        "item_id": "poison",
        "behaviour": "ordered",
    }
    rewrite(dataset, [*log, {**planted, "timestamp": poison}])
    after = build(dataset, tmp_path / "after")
    for table in ("training", "evaluation"):
        knowing = [row for row in after[table] if "poison" in row["history_item"]]
        assert knowing
        assert all(row["user_id"] == "u002" and row["as_of"] > poison for row in knowing)
        assert [row for row in after[table] if _untouched(row, poison)] == [
            row for row in before[table] if _untouched(row, poison)
        ]


def test_an_event_moved_in_time_moves_in_the_histories_between_and_nowhere_else(dataset, tmp_path):
    before = build(dataset, tmp_path / "before")["evaluation"]
    log = log_of(dataset)
    moved = next(e for e in log if e["user_id"] == "u002" and e["page"] == 5)
    left, arrived = moved["timestamp"], dataset.split().test_start
    was = (moved["item_id"], BEHAVIOURS.index(moved["behaviour"]), 5, int(left.timestamp()))
    moved["timestamp"] = arrived
    rewrite(dataset, log)
    after = {row["request_id"]: row for row in build(dataset, tmp_path / "after")["evaluation"]}
    for row in before:
        now = after[row["request_id"]]
        if row["user_id"] != "u002":
            assert now == row
            continue
        assert was in history_of(row)
        assert history_of(now) == expected_history(log, now, 512)
        assert sorted(set(history_of(row)) - set(history_of(now))) == [was]
        came = (*was[:3], int(arrived.timestamp()))
        assert set(history_of(now)) - set(history_of(row)) == ({came} if now["as_of"] > arrived else set())


def test_both_tables_read_as_sequences(dataset, tmp_path):
    build(dataset, tmp_path / "features")
    items = pq.read_table(dataset.items)["item_id"].to_pylist()
    for name in ("training", "evaluation"):
        table = pq.read_table(tmp_path / "features" / f"{name}.parquet")
        sequences = sequences_from_table(table, items)
        assert len(sequences) == table.num_rows
        owner = sequences.as_of.repeat(sequences.offset[1:] - sequences.offset[:-1])
        assert (sequences.time < owner).all()
        assert (sequences.target_from < sequences.as_of).all() == (name == "training")


def test_an_attribute_with_the_name_of_a_count_is_refused(dataset, tmp_path):
    pq.write_table(pa.table({"user_id": ["u000"], "page_count": ["7"]}), dataset.users)
    with pytest.raises(ValueError, match="page_count"):
        build(dataset, tmp_path / "features")


def test_an_unknown_environment_is_refused(dataset, tmp_path):
    with pytest.raises(ValueError, match=r"'moon' is unknown: use one of \['cluster', 'local'\]"):
        build_features(dataset.folder, tmp_path / "features", EVERYTHING, environment="moon")


def test_the_component_writes_the_folder_the_card_and_its_cost(dataset, tmp_path):
    metrics = dsl.Metrics(uri=str(tmp_path / "metrics"))
    read_recipe("genrec").write(tmp_path / "recipe")
    features_component.python_func(
        recipe=dsl.Artifact(uri=str(tmp_path / "recipe")),
        clean=dsl.Dataset(uri=str(dataset.folder)),
        features=dsl.Dataset(uri=str(tmp_path / "features")),
        card=dsl.Markdown(uri=str(tmp_path / "card.md")),
        metrics=metrics,
        version="7",
    )
    summary = json.loads((tmp_path / "features" / "features.json").read_text())
    assert summary["service"] == "recommender_7"
    assert "recommender_7" in (tmp_path / "card.md").read_text()
    assert metrics.metadata["training_rows"] == summary["training_rows"]
    assert metrics.metadata["peak_memory_mb"] > 0


def _untouched(row: Row, moment: object) -> bool:
    return row["user_id"] != "u002" or row["as_of"] <= moment
