"""What rewards know of items is what the release and the training period say of them, and nothing later."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nextpage.alignment.catalogue import Catalogue, read_catalogue
from nextpage.interactions.log import INTERACTION_SCHEMA, Dataset, Split
from nextpage.tokenizers.item_tokenizer import ItemTokenizer
from nextpage.tokenizers.residual_kmeans import ResidualKMeans
from nextpage.tokenizers.semantic_ids import SemanticIds

DAY = 86_400
START = 1_700_000_000
ITEM_IDS = ("bread", "milk", "salt", "soap", "tea", "unsold")
CODES = np.array([[0, 0], [0, 1], [1, 0], [1, 2], [2, 0], [2, 1]], dtype=np.int32)
SIZES = (3, 3)

Row = tuple[int, str, str, float | None]
"""Day, item, behaviour, value."""
TRAINING: list[Row] = [
    (0, "milk", "exposed", None),
    (1, "bread", "ordered", 2.0),
    (2, "milk", "ordered", 1.0),
    (3, "bread", "ordered", 4.0),
    (3, "soap", "clicked", 50.0),  # what was not ordered has no price
    (4, "tea", "ordered", 3.0),
]
LATER: list[Row] = [
    (10, "milk", "ordered", 900.0),  # validation
    (11, "salt", "ordered", 500.0),
    (20, "soap", "ordered", 700.0),  # test
]

Read = Callable[..., Catalogue]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """The catalogue of a release over ITEM_IDS and a log of `rows`, each row a page; days 10 and 20 begin validation
    and test."""

    def make(rows: list[Row], category: list[str | None] | None = None) -> Catalogue:
        release = tmp_path / "release"
        (release / "tokenizer").mkdir(parents=True, exist_ok=True)
        item_ids = np.array(ITEM_IDS, dtype=object)
        SemanticIds(item_ids=item_ids, codes=CODES, sizes=SIZES).write(release / "semantic_ids.parquet")
        _tokenizer().save(release / "tokenizer")
        columns = {"item_id": list(ITEM_IDS)} | ({} if category is None else {"category": category})
        pq.write_table(pa.table(columns), release / "items.parquet")
        return read_catalogue(release, _dataset(tmp_path, rows))

    return make


def _tokenizer() -> ItemTokenizer:
    codebooks = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    projection = np.zeros((5, 2), dtype=np.float32)
    return ItemTokenizer(encoder="wordllama", weight=1.0, projection=projection, quantiser=ResidualKMeans.of(codebooks))


def _dataset(folder: Path, rows: list[Row]) -> Dataset:
    dataset = Dataset(folder=folder)
    log = [
        {
            "user_id": "u",
            "request_id": str(number),
            "page": number,
            "position": 0,
            "item_id": item,
            "behaviour": behaviour,
            "timestamp": (START + day * DAY) * 1_000_000,
            "value": worth,
        }
        for number, (day, item, behaviour, worth) in enumerate(rows)
    ]
    pq.write_table(pa.Table.from_pylist(log, schema=INTERACTION_SCHEMA), dataset.interactions)
    validation, test = (datetime.fromtimestamp(START + day * DAY, UTC) for day in (10, 20))
    dataset.write_split(Split(kind="time", validation_start=validation, test_start=test))
    return dataset


def test_vectors_are_what_the_codes_say_of_an_item_beyond_what_they_say_of_all(read: Read) -> None:
    vectors = read(TRAINING).vectors
    decoded = _tokenizer().quantiser.decode(CODES)
    decoded -= decoded.mean(axis=0)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(ITEM_IDS)), abs=1e-6)
    assert vectors * np.linalg.norm(decoded, axis=1, keepdims=True) == pytest.approx(decoded, abs=1e-6)
    assert vectors.dtype == np.float32


def test_prices_are_percentiles_of_the_mean_order_and_the_middle_where_nothing_was_ordered(read: Read) -> None:
    price = dict(zip(ITEM_IDS, read(TRAINING).price.tolist(), strict=True))
    # Milk 1, then bread and tea, both 3 on average.
    assert price == pytest.approx(
        {"milk": 1 / 6, "bread": 4 / 6, "tea": 4 / 6, "salt": 0.5, "soap": 0.5, "unsold": 0.5}
    )


def test_an_item_is_first_seen_when_it_was_first_shown_and_at_the_start_of_the_log_if_never(read: Read) -> None:
    first = ((read(TRAINING).first_seen - START) / DAY).tolist()
    assert dict(zip(ITEM_IDS, first, strict=True)) == {
        "milk": 0,
        "bread": 1,
        "soap": 3,
        "tea": 4,
        "salt": 0,
        "unsold": 0,
    }


def test_nothing_after_training_is_known(read: Read) -> None:
    before, after = read(TRAINING), read(TRAINING + LATER)
    assert after.price.tolist() == before.price.tolist()
    assert after.first_seen.tolist() == before.first_seen.tolist()


def test_items_that_the_release_does_not_know_change_nothing(read: Read) -> None:
    before, after = read(TRAINING[1:]), read([(0, "unheard of", "ordered", 2.5), *TRAINING[1:]])
    assert after.price.tolist() == before.price.tolist()
    assert after.first_seen.tolist() == before.first_seen.tolist()


def test_categories_are_those_of_the_item_table_and_items_without_one_share_one(read: Read) -> None:
    category = read(TRAINING, category=["food", "drink", "food", None, "drink", None]).category
    assert category[0] == category[2]
    assert category[1] == category[4]
    assert category[3] == category[5]
    assert len(set(category.tolist())) == 3


def test_without_categories_the_first_code_is_the_category(read: Read) -> None:
    assert read(TRAINING).category.tolist() == CODES[:, 0].tolist()


def test_a_log_without_values_gives_every_item_the_middle_price(read: Read) -> None:
    price = read([(day, item, behaviour, None) for day, item, behaviour, _ in TRAINING]).price
    assert price.tolist() == [0.5] * len(ITEM_IDS)


def test_a_log_without_training_gives_neutral_figures(read: Read) -> None:
    catalogue = read(LATER)
    assert catalogue.price.tolist() == [0.5] * len(ITEM_IDS)
    assert len(set(catalogue.first_seen.tolist())) == 1
