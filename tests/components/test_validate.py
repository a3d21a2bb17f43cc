"""Data sets that are wrong as a whole: one sentence stops the run and says what broke, the value and the bound."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from components.validate.bounds import ValidationBounds
from components.validate.card import card
from components.validate.expectations import SUITES, load_suite
from components.validate.step import Validation, validate
from nextpage.interactions.log import INTERACTION_SCHEMA, Dataset, Split
from tests.synthetic import START

Table = pa.Table


def run(dataset: Dataset, tmp_path: Path, bounds: ValidationBounds | None = None) -> Validation:
    return validate(
        dataset.folder,
        tmp_path / "clean",
        tmp_path / "quarantine",
        tmp_path / "docs.html",
        bounds or ValidationBounds(),
    )


def log(change: Callable[[Table], Table]) -> Callable[[Dataset], None]:
    return lambda dataset: pq.write_table(change(pq.read_table(dataset.interactions)), dataset.interactions)


def catalogue(change: Callable[[Table], Table]) -> Callable[[Dataset], None]:
    return lambda dataset: pq.write_table(change(pq.read_table(dataset.items)), dataset.items)


def put(table: Table, name: str, column: pa.Array | pa.ChunkedArray) -> Table:
    return table.set_column(table.column_names.index(name), name, column)


def recast(name: str, kind: pa.DataType) -> Callable[[Table], Table]:
    return lambda table: put(table, name, table[name].cast(kind))


def share(table: Table, name: str, value: object, every: int) -> Table:
    """Every so many rows hold `value`."""
    hit = pa.array(np.arange(len(table)) % every == 0)
    loose = table.cast(pa.schema([field.with_nullable(True) for field in table.schema]))
    return put(loose, name, pc.if_else(hit, pa.scalar(value, table[name].type), table[name]))


def not_utf8(table: Table) -> Table:
    ids = [b"\xe9clair" if row == 0 else b"i0001" for row in range(len(table))]
    raw = pa.array(ids, pa.binary())
    return put(table, "item_id", pa.Array.from_buffers(pa.string(), len(raw), raw.buffers()))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage(path: Path) -> None:
    """Bytes in the middle are lost; header and footer are whole."""
    whole = bytearray(path.read_bytes())
    whole[4 : len(whole) // 2] = bytes(len(whole) // 2 - 4)
    path.write_bytes(bytes(whole))


def as_csv(dataset: Dataset) -> None:
    dataset.interactions.write_text("user_id,item_id,timestamp\nu1,i1,2024-01-01\n")


def as_folder(dataset: Dataset) -> None:
    part = dataset.interactions.read_bytes()
    dataset.interactions.unlink()
    dataset.interactions.mkdir()
    (dataset.interactions / "part-0.parquet").write_bytes(part)


def split(text: str) -> Callable[[Dataset], None]:
    return lambda dataset: (dataset.folder / "split.json").write_text(text) and None


def split_at(validation_start: datetime, test_start: datetime) -> Callable[[Dataset], None]:
    return lambda dataset: dataset.write_split(
        Split(kind="time", validation_start=validation_start, test_start=test_start)
    )


def only(name: str, value: str) -> Callable[[Table], Table]:
    return lambda table: table.filter(pc.equal(table[name], value))


def first_pages_only(table: Table) -> Table:
    return table.filter(pc.equal(table["page"], 0))


SMALL = ValidationBounds(min_interactions=1, min_users=2, min_items=2)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A data set broken as a whole: the sentence that stops the run holds all the `parts`."""

    name: str
    spoil: Callable[[Dataset], object]
    parts: tuple[str, ...]
    bounds: ValidationBounds = SMALL


IN_SET = "expect_column_values_to_be_in_set"
BETWEEN = "expect_column_values_to_be_between"
LATER = datetime(2030, 1, 1, tzinfo=UTC)

CASES = [
    *[
        Case(
            name=f"log without {column}",
            spoil=log(lambda table, column=column: table.drop_columns([column])),
            parts=("interactions: ", f"{column!r} is missing", "absent among ", IN_SET, "column map"),
        )
        for column in ("user_id", "request_id", "page", "position", "item_id", "behaviour", "timestamp")
    ],
    Case(
        name="renamed column",
        spoil=log(lambda table: table.rename_columns({"user_id": "userId"})),
        parts=("'user_id' is missing", "absent among userId, request_id", IN_SET),
    ),
    Case(
        name="page as floats",
        spoil=log(recast("page", pa.float64())),
        parts=("'page'", "double", "one of: integer", IN_SET),
    ),
    Case(
        name="user ids as numbers",
        spoil=log(lambda table: put(table, "user_id", pa.array(range(len(table))))),
        parts=("'user_id'", "integer", "one of: string", IN_SET),
    ),
    Case(
        name="ids as bytes",
        spoil=log(recast("item_id", pa.binary())),
        parts=("'item_id'", "binary", "one of: string", IN_SET),
    ),
    Case(
        name="times as text",
        spoil=log(lambda table: put(table, "timestamp", pc.strftime(table["timestamp"]))),
        parts=("'timestamp'", "string", "one of: timestamp with zone", IN_SET),
    ),
    Case(
        name="times as epoch numbers",
        spoil=log(recast("timestamp", pa.int64())),
        parts=("'timestamp'", "integer", "one of: timestamp with zone", IN_SET),
    ),
    Case(
        name="times without a zone",
        spoil=log(recast("timestamp", pa.timestamp("us"))),
        parts=("'timestamp'", "timestamp without zone", "one of: timestamp with zone", IN_SET),
    ),
    Case(
        name="value as text",
        spoil=log(recast("value", pa.string())),
        parts=("'value'", "string", "one of: double", IN_SET),
    ),
    Case(
        name="catalogue without text",
        spoil=catalogue(lambda table: table.drop_columns(["text"])),
        parts=("items: ", "'text' is missing", IN_SET),
    ),
    Case(
        name="attribute of the catalogue as a number",
        spoil=catalogue(lambda table: table.append_column("price", pa.array([1.5] * len(table)))),
        parts=("items: ", "price is double", IN_SET),
    ),
    Case(
        name="two columns of one name",
        spoil=log(lambda table: table.append_column("user_id", table["user_id"])),
        parts=("interactions.parquet: ", "several named 'user_id'"),
    ),
    Case(
        name="no log",
        spoil=lambda dataset: dataset.interactions.unlink(),
        parts=("interactions.parquet: expected one Parquet file, found nothing",),
    ),
    Case(
        name="no catalogue",
        spoil=lambda dataset: dataset.items.unlink(),
        parts=("items.parquet: expected one Parquet file, found nothing",),
    ),
    Case(name="log as a folder of parts", spoil=as_folder, parts=("interactions.parquet: ", "found a folder")),
    Case(
        name="file of no bytes",
        spoil=lambda dataset: dataset.interactions.write_bytes(b""),
        parts=("interactions.parquet: expected a readable Parquet file, found 0 bytes", "ingest"),
    ),
    Case(
        name="truncated Parquet",
        spoil=lambda dataset: cut(dataset.interactions),
        parts=("interactions.parquet: expected a readable Parquet file", "cut short"),
    ),
    Case(
        name="damaged Parquet",
        spoil=lambda dataset: damage(dataset.items),
        parts=("items.parquet: expected a readable Parquet file",),
    ),
    Case(name="CSV named Parquet", spoil=as_csv, parts=("expected a readable Parquet file", "is it a CSV")),
    Case(
        name="text that is not UTF-8",
        spoil=log(not_utf8),
        parts=("interactions.parquet: expected UTF-8 text, found other bytes in column 'item_id'", "latin-1"),
    ),
    Case(
        name="no split",
        spoil=lambda dataset: (dataset.folder / "split.json").unlink(),
        parts=("split.json: expected a file, found nothing",),
    ),
    Case(name="split that is no JSON", spoil=split("kind: time"), parts=("split.json: expected a split",)),
    Case(
        name="split of an unknown kind",
        spoil=split('{"kind": "random"}'),
        parts=("split.json: expected a split", "'random' is unknown"),
    ),
    Case(
        name="split that ends before it starts",
        spoil=split('{"kind": "time", "validation_start": "2024-02-01T00:00Z", "test_start": "2024-01-01T00:00Z"}'),
        parts=("split.json: expected a split", "must lie before test_start"),
    ),
    Case(
        name="split without a zone",
        spoil=split('{"kind": "time", "validation_start": "2024-01-20", "test_start": "2024-01-25"}'),
        parts=("split.json: expected moments with a zone",),
    ),
    Case(
        name="split after the log",
        spoil=split_at(LATER, LATER + timedelta(days=7)),
        parts=("no page is left for validation: 0, the bound is at least 1", BETWEEN, "split.json"),
    ),
    Case(
        name="split before the log",
        spoil=split_at(START - timedelta(days=7), START - timedelta(days=1)),
        parts=("no page is left for training: 0, the bound is at least 1", BETWEEN),
    ),
    Case(
        name="test after the log",
        spoil=split_at(START + timedelta(days=10), LATER),
        parts=("no page is left for the test: 0, the bound is at least 1", BETWEEN),
    ),
    Case(
        name="header only",
        spoil=log(lambda table: table.slice(0, 0)),
        parts=("too few rows in the log: 0, the bound is at least 1", BETWEEN, "min_interactions"),
    ),
    Case(
        name="catalogue of no rows",
        spoil=catalogue(lambda table: table.slice(0, 0)),
        parts=("item_id is not among the sound items: 100.00% of rows", "at most 2.00% of rows", IN_SET),
    ),
    Case(
        name="too few rows",
        spoil=lambda dataset: None,
        bounds=ValidationBounds(min_interactions=1_000_000),
        parts=("too few rows in the log: 5,057, the bound is at least 1,000,000 (", BETWEEN, "min_interactions"),
    ),
    Case(
        name="one user only",
        spoil=log(only("user_id", "u001")),
        parts=("too few users in the log: 1, the bound is at least 2", BETWEEN, "min_users"),
    ),
    Case(
        name="one item only",
        spoil=log(only("item_id", "i0000")),
        parts=("too few items in the log: 1, the bound is at least 2", BETWEEN, "min_items"),
    ),
    Case(
        name="one page a user",
        spoil=log(first_pages_only),
        parts=("too few users with two pages or more: 0, the bound is at least 2", BETWEEN),
    ),
    Case(
        name="exposures only",
        spoil=log(only("behaviour", "exposed")),
        parts=("no row is clicked or ordered: 0, the bound is at least 1", BETWEEN),
    ),
    Case(
        name="stale log",
        spoil=lambda dataset: None,
        bounds=ValidationBounds(max_age_days=2),
        parts=("the log is stale", "the bound is at most 2 (", BETWEEN, "max_age_days"),
    ),
    Case(
        name="a stale log with one row in the future",
        spoil=log(lambda table: share(table, "timestamp", LATER + timedelta(days=36_500), every=10_000)),
        bounds=ValidationBounds(max_age_days=2),
        parts=("the log is stale", BETWEEN),
    ),
    Case(
        name="too many rows with one fault",
        spoil=log(lambda table: share(table, "behaviour", "seen", every=10)),
        parts=("behaviour is not one of", "10.01% of rows, the bound is at most 5.00% of rows", IN_SET, "map the"),
    ),
    Case(
        name="too many rows with no user",
        spoil=log(lambda table: share(table, "user_id", None, every=10)),
        parts=("user_id is null: 10.01% of rows", "at most 5.00% of rows", "expect_column_values_to_not_be_null"),
    ),
    Case(
        name="too many rows in quarantine, no fault alone",
        spoil=log(lambda table: share(share(table, "behaviour", "seen", every=25), "position", -1, every=26)),
        parts=("too many rows of interactions are in quarantine: 0.07712, the bound is at most 0.05", BETWEEN),
    ),
    Case(
        name="too many unknown items",
        spoil=log(lambda table: share(table, "item_id", "gone", every=25)),
        parts=("item_id is not among the sound items: 4.01% of rows", "at most 2.00% of rows", IN_SET, "catalogue"),
    ),
    Case(
        name="the whole log twice",
        spoil=log(lambda table: pa.concat_tables([table, table])),
        parts=("the row repeats an earlier row: 50.00% of rows", "at most 2.00% of rows", IN_SET),
    ),
    Case(
        name="the whole catalogue twice",
        spoil=catalogue(lambda table: pa.concat_tables([table, table])),
        parts=("items: item_id is listed in an earlier row: 50.00% of rows", "at most 2.00% of rows", IN_SET),
    ),
    Case(
        name="request ids that start again with each user",
        spoil=log(lambda table: put(table, "request_id", table["page"].cast(pa.string()))),
        parts=("request_id is shared by several users: 100.00% of rows", "at most 5.00% of rows", BETWEEN),
    ),
    Case(
        name="pages numbered from the newest",
        spoil=log(lambda table: put(table, "page", pc.subtract(100, table["page"]))),
        parts=("the page lies in time before an earlier page", "of rows, the bound is at most 5.00%", IN_SET),
    ),
    Case(
        name="seconds read as milliseconds, a thousandfold late",
        spoil=log(
            lambda table: put(
                table,
                "timestamp",
                pc.multiply(table["timestamp"].cast(pa.int64()), 1000).cast(pa.timestamp("us", "UTC")),
            )
        ),
        parts=("timestamp lies in the future: 100.00% of rows", BETWEEN, "wrong unit"),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_broken_data_set_stops_the_run_with_one_sentence(dataset: Dataset, tmp_path: Path, case: Case) -> None:
    case.spoil(dataset)
    found = run(dataset, tmp_path, case.bounds)
    assert not found.verdict.passed
    assert found.verdict.gate == "data quality"
    (sentence,) = found.verdict.reasons
    assert "\n" not in sentence
    assert [part for part in case.parts if part not in sentence] == [], sentence
    assert sentence in card(found)


def test_a_sound_data_set_passes_with_nothing_in_quarantine(dataset: Dataset, tmp_path: Path) -> None:
    found = run(dataset, tmp_path)
    assert found.verdict.passed, found.verdict.reasons
    assert found.quarantined == {"items": 0, "users": 0, "interactions": 0}
    assert pq.read_table(tmp_path / "quarantine").num_rows == 0
    clean = Dataset(folder=tmp_path / "clean")
    assert pq.read_table(clean.interactions).equals(pq.read_table(dataset.interactions))
    assert pq.read_table(clean.items).equals(pq.read_table(dataset.items))
    assert pq.read_table(clean.users).equals(pq.read_table(dataset.users))
    assert clean.split() == dataset.split()


def test_lossless_other_types_are_taken_and_written_as_the_schema(dataset: Dataset, tmp_path: Path) -> None:
    before = pq.read_table(dataset.interactions)
    other = before.drop_columns(["scenario"]).append_column("session", pa.array(range(len(before))))
    for name, kind in {
        "page": pa.int16(),
        "position": pa.uint8(),
        "item_id": pa.dictionary(pa.int32(), pa.string()),
        "user_id": pa.large_string(),
        "timestamp": pa.timestamp("ns", tz="Europe/Berlin"),
        "value": pa.decimal128(12, 2),
    }.items():
        other = put(other, name, other[name].cast(kind))
    pq.write_table(other, dataset.interactions)
    found = run(dataset, tmp_path)
    assert found.verdict.passed, found.verdict.reasons
    clean = pq.read_table(tmp_path / "clean" / "interactions.parquet")
    assert clean.schema.equals(INTERACTION_SCHEMA)
    assert clean.drop_columns(["value"]).equals(before.drop_columns(["value"]))
    assert np.allclose(clean["value"].to_pandas(), before["value"].to_pandas(), rtol=1e-12, equal_nan=True)
    assert found.left_out == ("session",)
    assert "session" in card(found)


def test_a_data_set_without_users_gets_an_empty_table_of_them(dataset: Dataset, tmp_path: Path) -> None:
    dataset.users.unlink()
    assert run(dataset, tmp_path).verdict.passed
    assert pq.read_table(tmp_path / "clean" / "users.parquet").to_pylist() == []


def test_users_listed_twice_or_blank_go_to_quarantine(dataset: Dataset, tmp_path: Path) -> None:
    users = pq.read_table(dataset.users)
    more = pa.table({"user_id": ["u001", "  ", None], "age": ["65+", None, None]})
    pq.write_table(pa.concat_tables([users, more]), dataset.users)
    run(dataset, tmp_path)
    reasons = [row["reason"] for row in pq.read_table(tmp_path / "quarantine").to_pylist()]
    assert reasons == ["user_id is listed in an earlier row", "user_id is empty or blank", "user_id is null"]


def test_leave_one_out_needs_three_pages_of_someone(dataset: Dataset, tmp_path: Path) -> None:
    dataset.write_split(Split(kind="leave_one_out"))
    assert run(dataset, tmp_path).verdict.passed
    log(lambda table: table.filter(pc.less(table["page"], 2)))(dataset)
    (sentence,) = run(dataset, tmp_path, ValidationBounds(min_interactions=1)).verdict.reasons
    assert "no page is left for training: 0, the bound is at least 1" in sentence


def test_the_bound_is_the_suites_own(dataset: Dataset, tmp_path: Path) -> None:
    """The same rows leave, and the verdict turns where the share crosses the bound that the suite is given."""
    log(lambda table: share(table, "item_id", "gone", every=25))(dataset)
    strict = run(dataset, tmp_path, ValidationBounds(max_unknown_item_share=0.040))
    loose = run(dataset, tmp_path, replace(ValidationBounds(), max_unknown_item_share=0.041))
    assert (strict.verdict.passed, loose.verdict.passed) == (False, True)
    assert strict.quarantined == loose.quarantined == {"items": 0, "users": 0, "interactions": 203}


@pytest.mark.parametrize("name", ["interactions", "items", "users", "dataset"])
def test_a_suite_is_what_great_expectations_itself_writes(name: str) -> None:
    suite = load_suite(name)
    assert suite.to_json_dict() == json.loads((SUITES / f"{name}.json").read_text())
    faults = [one.meta["fault"] for one in suite.expectations]
    assert len(set(faults)) == len(faults), "a fault names its expectation"
    assert all(
        one.meta["remedy"] and one.meta["stage"] in ("schema", "row", "relation", "figure")
        for one in suite.expectations
    )


@pytest.mark.parametrize("name", [name for name in asdict(ValidationBounds()) if name.endswith("_share")])
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_a_share_outside_its_range_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}: it is a share"):
        replace(ValidationBounds(), **{name: value})


def test_a_bound_of_no_rows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"min_interactions is 0: .* no data is never a success"):
        ValidationBounds(min_interactions=0)


def test_data_docs_are_one_file_that_loads_nothing(dataset: Dataset, tmp_path: Path) -> None:
    log(lambda table: share(table, "behaviour", "<script>alert(1)</script>", every=10))(dataset)
    found = run(dataset, tmp_path)
    page = (tmp_path / "docs.html").read_text()
    assert found.verdict.reasons[0] in page
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    for table in ("interactions", "items", "users", "dataset"):
        assert f'id="{table}"' in page
