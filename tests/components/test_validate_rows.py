"""Faults of single rows: each goes to quarantine with its own reason, and nothing is lost."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.validate.bounds import ValidationBounds
from components.validate.step import Validation, validate
from nextpage.interactions.log import INTERACTION_SCHEMA, Dataset
from tests.synthetic import write_dataset

Row = dict[str, Any]
LENIENT = ValidationBounds(max_quarantined_share=0.9, max_unknown_item_share=0.9, max_duplicate_share=0.9)
MOMENT = datetime(2024, 1, 20, 12, tzinfo=UTC)


def changed(**values: Any) -> Callable[[list[Row]], list[Row]]:
    """Change the first row of a page."""
    return lambda page: [page[0] | values, *page[1:]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One page of the log, broken: `quarantined` of its rows leave, each with the whole reason."""

    name: str
    spoil: Callable[[list[Row]], list[Row]]
    reason: str
    quarantined: int = 1


ROW_CASES = [
    *[
        Case(name=f"null {column}", spoil=changed(**{column: None}), reason=f"{column} is null")
        for column in ("user_id", "request_id", "item_id", "page", "position", "behaviour")
    ],
    Case(name="null timestamp", spoil=changed(timestamp=None), reason="timestamp is null or out of any calendar"),
    *[
        Case(name=f"empty {column}", spoil=changed(**{column: ""}), reason=f"{column} is empty or blank")
        for column in ("user_id", "request_id", "item_id")
    ],
    Case(name="blank user", spoil=changed(user_id=" \t "), reason="user_id is empty or blank"),
    Case(name="no-break blank user", spoil=changed(user_id="\u00a0"), reason="user_id is empty or blank"),
    Case(
        name="outer blank around an item",
        spoil=lambda page: [page[0] | {"item_id": page[0]["item_id"] + " "}, *page[1:]],
        reason="item_id holds control characters or outer blanks",
    ),
    Case(
        name="control character in a user",
        spoil=changed(user_id="u\x00001"),
        reason="user_id holds control characters or outer blanks",
    ),
    Case(
        name="zero-width character in a request",
        spoil=changed(request_id="\u200brequest"),
        reason="request_id holds control characters or outer blanks",
    ),
    Case(name="overlong user", spoil=changed(user_id="u" * 257), reason="user_id is longer than 256 characters"),
    Case(name="overlong item", spoil=changed(item_id="i" * 300), reason="item_id is longer than 256 characters"),
    Case(name="negative page", spoil=changed(page=-1), reason="page is negative"),
    Case(name="negative position", spoil=changed(position=-1), reason="position is negative"),
    Case(
        name="unknown behaviour",
        spoil=changed(behaviour="liked"),
        reason="behaviour is not one of exposed, clicked, ordered",
    ),
    Case(
        name="behaviour in capitals",
        spoil=changed(behaviour="ORDERED"),
        reason="behaviour is not one of exposed, clicked, ordered",
    ),
    Case(
        name="time before 1970",
        spoil=changed(timestamp=datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        reason="timestamp lies before 1970",
    ),
    Case(
        name="time in the future",
        spoil=changed(timestamp=datetime(2999, 1, 1, tzinfo=UTC)),
        reason="timestamp lies in the future",
    ),
    Case(name="value NaN", spoil=changed(value=math.nan), reason="value is NaN or infinite"),
    Case(name="value infinite", spoil=changed(value=math.inf), reason="value is NaN or infinite"),
    Case(name="value minus infinite", spoil=changed(value=-math.inf), reason="value is NaN or infinite"),
    Case(name="value negative", spoil=changed(value=-0.01), reason="value is negative"),
    Case(name="unknown item", spoil=changed(item_id="i9999"), reason="item_id is not among the sound items"),
    Case(
        name="item of a quarantined catalogue row",
        spoil=changed(item_id="no text"),
        reason="item_id is not among the sound items",
    ),
    Case(name="event delivered twice", spoil=lambda page: [*page, page[0]], reason="the row repeats an earlier row"),
    Case(
        name="event delivered three times",
        spoil=lambda page: [*page, page[0], page[0]],
        reason="the row repeats an earlier row",
        quarantined=2,
    ),
    Case(
        name="two faults in one row",
        spoil=changed(page=-3, behaviour="seen"),
        reason="page is negative; behaviour is not one of exposed, clicked, ordered",
    ),
    Case(
        name="request of two users",
        spoil=changed(user_id="someone else"),
        reason="request_id is shared by several users",
        quarantined=4,
    ),
    Case(
        name="request with two page numbers",
        spoil=changed(page=7_000),
        reason="request_id has several page numbers",
        quarantined=4,
    ),
    Case(
        name="page with two times",
        spoil=changed(timestamp=MOMENT + timedelta(seconds=1)),
        reason="the page's rows have different timestamps",
        quarantined=4,
    ),
    Case(
        name="page number used by two requests",
        spoil=lambda page: [*page[:2], *(row | {"request_id": page[0]["request_id"] + " again"} for row in page[2:])],
        reason="the user's page number is shared by several requests",
        quarantined=4,
    ),
    Case(
        name="page before an earlier page",
        spoil=lambda page: [
            *page,
            page[0] | {"page": 1, "request_id": "late", "timestamp": MOMENT - timedelta(days=1)},
        ],
        reason="the page lies in time before an earlier page of the user",
    ),
]


def spoilt(folder: Path) -> tuple[Dataset, dict[str, list[int]]]:
    """A sound log with one more user a case, whose one page is broken; and the row numbers of each case's page."""
    dataset = write_dataset(folder)
    sound = pq.read_table(dataset.interactions)
    rows: list[Row] = []
    places: dict[str, list[int]] = {}
    for number, case in enumerate(ROW_CASES):
        page = [
            {
                "user_id": f"case {number}",
                "request_id": f"request {number}",
                "page": 0,
                "position": position,
                "item_id": f"i{position:04d}",
                "behaviour": "ordered",
                "timestamp": MOMENT,
                "value": 1.0,
            }
            for position in range(4)
        ]
        page = case.spoil(page)
        places[case.name] = list(range(len(sound) + len(rows), len(sound) + len(rows) + len(page)))
        rows.extend(page)
    loose = pa.schema([field.with_nullable(True) for field in INTERACTION_SCHEMA])
    pq.write_table(
        pa.concat_tables([sound.cast(loose), pa.Table.from_pylist(rows, schema=loose)]), dataset.interactions
    )
    add_items(dataset, [*CATALOGUE_CASES, ("no text", "", "text is empty or blank")])
    return dataset, places


CATALOGUE_CASES = [
    (None, "text", "item_id is null"),
    ("", "text", "item_id is empty or blank"),
    ("new\nline", "text", "item_id holds control characters or outer blanks"),
    ("x" * 257, "text", "item_id is longer than 256 characters"),
    ("null text", None, "text is null"),
    ("blank text", " \n ", "text is empty or blank"),
    ("long text", "word " * 5_000, "text is longer than 20,000 characters"),
    ("binary text", "PNG\x01\x02", "text holds control characters"),
    ("i0003", "another text", "item_id is listed in an earlier row"),
]
"""Rows of the catalogue: item_id, text, reason."""


def add_items(dataset: Dataset, cases: list[tuple[str | None, str | None, str]]) -> None:
    items = pq.read_table(dataset.items)
    more = [{"item_id": item, "text": text, "category": None, "brand": None} for item, text, _ in cases]
    pq.write_table(pa.concat_tables([items, pa.Table.from_pylist(more, schema=items.schema)]), dataset.items)


@dataclass(frozen=True, kw_only=True)
class Run:
    dataset: Dataset
    clean: Dataset
    quarantine: list[Row]
    places: dict[str, list[int]]
    found: Validation

    def reasons(self, table: str) -> dict[int, str]:
        return {row["row"]: row["reason"] for row in self.quarantine if row["table"] == table}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All cases in one data set, validated once: so each is also shown not to disturb the others."""
    folder = tmp_path_factory.mktemp("spoilt")
    dataset, places = spoilt(folder / "raw")
    found = validate(folder / "raw", folder / "clean", folder / "quarantine", folder / "docs.html", LENIENT)
    quarantine = pq.read_table(folder / "quarantine").to_pylist()
    return Run(
        dataset=dataset, clean=Dataset(folder=folder / "clean"), quarantine=quarantine, places=places, found=found
    )


@pytest.mark.parametrize("case", ROW_CASES, ids=lambda case: case.name)
def test_a_broken_row_goes_to_quarantine_with_its_reason(run: Run, case: Case) -> None:
    reasons = run.reasons("interactions")
    assert [reasons[row] for row in run.places[case.name] if row in reasons] == [case.reason] * case.quarantined


@pytest.mark.parametrize(("item", "text", "reason"), CATALOGUE_CASES, ids=lambda value: str(value)[:30])
def test_a_broken_item_goes_to_quarantine_with_its_reason(
    run: Run, item: str | None, text: str | None, reason: str
) -> None:
    found = [row["reason"] for row in run.quarantine if row["table"] == "items" and row["item_id"] == item]
    assert found == [reason]


def test_sound_rows_stay_as_they_were(run: Run) -> None:
    broken = run.reasons("interactions")
    source = pq.read_table(run.dataset.interactions)
    kept = source.filter(pa.array([row not in broken for row in range(len(source))]))
    clean = pq.read_table(run.clean.interactions)
    assert clean.schema.equals(INTERACTION_SCHEMA)
    assert clean.to_pylist() == kept.to_pylist()
    assert len(clean) + len(broken) == len(source)


def test_quarantined_rows_keep_their_own_columns(run: Run) -> None:
    source = pq.read_table(run.dataset.interactions).to_pylist()
    for row in run.quarantine:
        if row["table"] == "interactions":
            own = source[row["row"]]
            assert {name: str(row[name]) for name in own} == {name: str(value) for name, value in own.items()}


def test_the_clean_data_set_is_found_clean(run: Run, tmp_path: Path) -> None:
    again = validate(run.clean.folder, tmp_path / "clean", tmp_path / "quarantine", tmp_path / "docs", LENIENT)
    assert again.verdict.passed
    assert sum(again.quarantined.values()) == 0
    for name in ("interactions.parquet", "items.parquet", "users.parquet"):
        assert pq.read_table(tmp_path / "clean" / name).equals(pq.read_table(run.clean.folder / name))


def as_text(table: pa.Table) -> list[str]:
    """Rows that can be compared and sorted, nulls and NaN included."""
    return [str([row[name] for name in INTERACTION_SCHEMA.names]) for row in table.to_pylist()]


@pytest.mark.parametrize("seed", range(4))
def test_counts_add_up_for_any_mixture_of_faults(tmp_path: Path, seed: int) -> None:
    draw = np.random.default_rng(seed)
    dataset = write_dataset(tmp_path / "raw", users=25, items=60, pages=8, seed=seed)
    rows = pq.read_table(dataset.interactions).to_pylist()
    columns: dict[str, list[Any]] = {
        "user_id": [None, "", " u", "u000"],
        "request_id": [None, "u000-0", "u001-1"],
        "page": [None, -5, 0, 3],
        "position": [None, -1, 0],
        "item_id": [None, "i0001", "nowhere"],
        "behaviour": [None, "liked", "exposed"],
        "timestamp": [None, datetime(1950, 1, 1, tzinfo=UTC), datetime(2024, 1, 5, tzinfo=UTC)],
        "value": [math.nan, -1.0, None],
    }
    for row in draw.choice(len(rows), size=120, replace=False):
        column = draw.choice(list(columns))
        rows[row][column] = columns[column][draw.integers(len(columns[column]))]
    rows += [rows[row] for row in draw.choice(len(rows), size=15)]
    loose = pa.schema([field.with_nullable(True) for field in INTERACTION_SCHEMA])
    pq.write_table(pa.Table.from_pylist(rows, schema=loose), dataset.interactions)
    found = validate(dataset.folder, tmp_path / "clean", tmp_path / "quarantine", tmp_path / "docs.html", LENIENT)
    quarantined = pq.read_table(tmp_path / "quarantine", filters=[("table", "=", "interactions")])
    clean = pq.read_table(tmp_path / "clean" / "interactions.parquet")
    assert found.rows["interactions"] == len(rows) == len(clean) + len(quarantined)
    assert found.quarantined["interactions"] == len(quarantined) > 50
    assert all(quarantined["reason"].to_pylist())

    assert sorted(as_text(clean) + as_text(quarantined)) == sorted(as_text(pq.read_table(dataset.interactions)))
    again = validate(tmp_path / "clean", tmp_path / "2", tmp_path / "2.parquet", tmp_path / "2.html", LENIENT)
    assert sum(again.quarantined.values()) == 0
