import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from nextpage.interactions.histories import requests, training_histories
from nextpage.interactions.loaders import Source, load
from nextpage.interactions.log import INTERACTION_SCHEMA, Dataset

REAL = Path(os.environ.get("NEXTPAGE_AMAZON_DATA", Path(__file__).parents[2].parent / "shared" / "data" / "amazon"))


@pytest.fixture
def small(tmp_path: Path) -> Dataset:
    source = tmp_path / "source"
    source.mkdir()
    (source / "Beauty.sequences.txt").write_text("1 10 11 12 10\n2 12 11 13\n")
    (source / "Beauty.item_text.tsv").write_text(
        "item_id\tasin\ttext_id\tlexical_id\tattributes\n"
        '10\tA0\tred "lacquer"\tshimmer  red\tOPI; Makeup; Nails\n'
        "11\tA1\tcream\tskin\tSkin Care;\n"
        "12\tA2\tblocks\tbuild\tattr1; attr22\n"
        "13\tA3\t\tloose\t\n"
    )
    return load(Source(name="amazon", options={"folder": str(source)}), tmp_path / "dataset")


def test_each_event_is_a_page_in_the_order_of_the_line(small: Dataset) -> None:
    log = pq.read_table(small.interactions)
    assert log.schema.equals(INTERACTION_SCHEMA)
    rows = [(row["user_id"], row["page"], row["item_id"]) for row in log.to_pylist()]
    assert rows == [
        *[("1", page, item) for page, item in enumerate(["10", "11", "12", "10"])],
        *[("2", page, item) for page, item in enumerate(["12", "11", "13"])],
    ]
    assert set(log["behaviour"].to_pylist()) == {"ordered"}
    assert set(log["position"].to_pylist()) == {0}


def test_events_lie_a_day_apart_and_all_users_end_on_one_day(small: Dataset) -> None:
    times: dict[str, list[datetime]] = {}
    for row in pq.read_table(small.interactions).to_pylist():
        times.setdefault(row["user_id"], []).append(row["timestamp"])
    last = datetime(2014, 7, 1, tzinfo=UTC)
    assert times["1"] == [last - timedelta(days=days) for days in (3, 2, 1, 0)]
    assert times["2"] == [last - timedelta(days=days) for days in (2, 1, 0)]


def test_text_joins_words_and_category_is_the_narrowest_attribute(small: Dataset) -> None:
    items = pq.read_table(small.items).to_pylist()
    assert [item["text"] for item in items] == [
        'red "lacquer" shimmer red OPI Makeup Nails',
        "cream skin Skin Care",
        "blocks build",
        "loose",
    ]
    assert [item["category"] for item in items] == ["Nails", "Skin Care", "attr22", None]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Toys_and_Games\.sequences\.txt is missing: set option 'folder'"):
        load(Source(name="amazon", options={"folder": str(tmp_path), "category": "Toys_and_Games"}), tmp_path / "out")


@pytest.mark.skipif(
    not REAL.exists(), reason="the Amazon sequences are not here: set NEXTPAGE_AMAZON_DATA to their folder"
)
def test_the_real_beauty_is_the_published_five_core_with_leave_one_out(tmp_path: Path) -> None:
    dataset = load(Source(name="amazon", options={"folder": str(REAL)}), tmp_path)
    items = pq.read_table(dataset.items)["item_id"].to_pylist()
    lines = [line.split() for line in (REAL / "Beauty.sequences.txt").read_text().splitlines()]
    assert (len(lines), len(items)) == (22_363, 12_101)
    asked = requests(dataset, items)
    expected = {user: (history[:-1], history[-1]) for user, *history in lines}
    assert len(asked) == len(lines)
    for number in range(0, len(asked), 500):
        history, truth = expected[asked.prompts.user_id[number]]
        prompt = slice(*asked.prompts.offset[number : number + 2])
        assert [items[item] for item in asked.prompts.item[prompt]] == history
        assert items[asked.truth_item[number]] == truth
    assert len(training_histories(dataset, items).item) == sum(len(line) - 3 for line in lines)
