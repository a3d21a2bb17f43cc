"""Validate a dataset folder: files, columns, rows, how rows stand to one another, the data set as a whole."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.validate import facts
from components.validate.bounds import ValidationBounds
from components.validate.docs import write_docs
from components.validate.expectations import Finding, asked, check
from components.validate.quarantine import Faults, part, write_quarantine
from components.validate.source import UnreadableError, column_types, read_split
from nextpage.gates import Verdict
from nextpage.interactions.log import INTERACTION_SCHEMA, Dataset

if TYPE_CHECKING:
    import pandas as pd
    import pyspark.sql

    Frame = pd.DataFrame | pyspark.sql.DataFrame

GATE = "data quality"
Measure = Callable[[facts.Columns], "pd.DataFrame"]


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What was found. `rows` and `quarantined` count by table; `left_out`: columns of the log outside the schema."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    rows: Mapping[str, int]
    quarantined: Mapping[str, int]
    left_out: tuple[str, ...]

    def figures(self) -> dict[str, float]:
        """Rows and rows in quarantine, of all tables and by table."""
        whole = {"rows": float(sum(self.rows.values())), "quarantined": float(sum(self.quarantined.values()))}
        rows = {f"{table}_rows": float(count) for table, count in self.rows.items()}
        return whole | rows | {f"{table}_quarantined": float(count) for table, count in self.quarantined.items()}


class Inquiry:
    """Asks the suites, and keeps every finding."""

    def __init__(self, bounds: ValidationBounds) -> None:
        self.parameters = bounds.suite_parameters() | {"now": time.time()}
        self.findings: list[Finding] = []

    def ask(self, table: str, stage: str, frame: "Frame") -> tuple[Finding, ...]:
        found = check(frame, table=table, stage=stage, parameters=self.parameters)
        self.findings.extend(found)
        return found

    def failed(self) -> list[Finding]:
        return [one for one in self.findings if not one.passed]

    def faults(
        self,
        table: str,
        count: int,
        rows: "Frame",
        relation: Callable[[np.ndarray], "pd.DataFrame"],
    ) -> Faults:
        """Judge each of `count` rows by itself, then the sound ones, bool [rows], beside one another."""
        faults = Faults(count)
        for found in self.ask(table, "row", rows):
            faults.add(found.fault, found.rows)
        for found in self.ask(table, "relation", relation(faults.sound())):
            faults.add(found.fault, found.rows)
        return faults


def validate(
    raw: Path, clean: Path, quarantine: Path, docs: Path, bounds: ValidationBounds, *, engine: str = "duckdb"
) -> Validation:
    """Judge the dataset folder `raw`. With `spark` as engine its workers judge rows by themselves, and find the same.

    Writes the sound rows to the folder `clean` (same layout; the log exactly in INTERACTION_SCHEMA, in the order of the
    source), the others to the Parquet file `quarantine` with `table`, `row` and `reason`, and Great Expectations' Data
    Docs to the HTML file `docs`. Of each table, clean rows + quarantined rows = rows. Where a file cannot be read or a
    schema is wrong, no row can be judged and only `docs` is written. Use `clean` only where the verdict passed.
    """
    source, target = Dataset(folder=raw), Dataset(folder=clean)
    inquiry = Inquiry(bounds)
    types: dict[str, dict[str, str]] = {}
    faults: dict[str, Faults] = {}
    sentence = None
    try:
        split = read_split(source)
        for table, path in _tables(source).items():
            types[table] = column_types(path)
            inquiry.ask(
                table, "schema", facts.schema_facts(types[table], [one.column for one in asked(table, "schema")])
            )
        if not inquiry.failed():
            faults = _judge_rows(source, types, inquiry, engine)
            _write(source, target, quarantine, faults)
            shares = {"users": 0.0} | {table: one.share() for table, one in faults.items()}
            inquiry.ask("dataset", "figure", facts.dataset_facts(target, split, shares, inquiry.parameters["now"]))
    except UnreadableError as error:
        sentence = str(error)
    else:
        sentence = next((found.sentence() for found in inquiry.failed()), None)
    notes = [f"{one.count():,} of {len(one.bits):,} rows of {table} in quarantine" for table, one in faults.items()]
    notes.append(f"{len(inquiry.findings)} expectations hold")
    found = Validation(
        verdict=Verdict(gate=GATE, passed=sentence is None, reasons=(sentence,) if sentence else tuple(notes)),
        findings=tuple(inquiry.findings),
        rows={table: len(one.bits) for table, one in faults.items()},
        quarantined={table: one.count() for table, one in faults.items()},
        left_out=tuple(name for name in types.get("interactions", {}) if name not in INTERACTION_SCHEMA.names),
    )
    write_docs(docs, found.findings, found.verdict)
    return found


def _tables(dataset: Dataset) -> dict[str, Path]:
    """The catalogue first: which items are sound decides on the log."""
    users = {"users": dataset.users} if dataset.users.exists() else {}
    return {"items": dataset.items} | users | {"interactions": dataset.interactions}


def _judge_rows(
    source: Dataset, types: Mapping[str, Mapping[str, str]], inquiry: Inquiry, engine: str
) -> dict[str, Faults]:
    def rows(path: Path, columns: facts.Columns, measure: Measure) -> "tuple[int, Frame]":
        return len(next(iter(columns.values()))), _measured(engine, path, columns, measure)

    faults: dict[str, Faults] = {}
    items = facts.read_columns(source.items, text=("item_id", "text"))
    faults["items"] = inquiry.faults(
        "items",
        *rows(source.items, items, facts.item_row_facts),
        lambda sound: facts.repeat_facts(items["item_id"], sound),
    )
    if "users" in types:
        users = facts.read_columns(source.users, text=("user_id",))
        faults["users"] = inquiry.faults(
            "users",
            *rows(source.users, users, facts.user_row_facts),
            lambda sound: facts.repeat_facts(users["user_id"], sound),
        )
    known = items["item_id"].filter(pa.array(faults["items"].sound())).dictionary_decode()
    log = facts.read_columns(
        source.interactions,
        text=("user_id", "request_id", "item_id", "behaviour"),
        other=[name for name in ("page", "position", "timestamp", "value") if name in types["interactions"]],
    )
    faults["interactions"] = inquiry.faults(
        "interactions",
        *rows(source.interactions, log, facts.interaction_row_facts),
        lambda sound: facts.interaction_relation_facts(log, sound, known),
    )
    return faults


def _measured(engine: str, path: Path, columns: facts.Columns, measure: Measure) -> "Frame":
    """What each row of the table at `path` says by itself: by its `columns` here, or read again by Spark's workers."""
    if engine == "duckdb":
        return measure(columns)
    from components.validate.spark_facts import row_facts
    from feature_repo.engines import spark_session

    types = {name: column.type for name, column in columns.items()}
    plain = {name: kind.value_type if pa.types.is_dictionary(kind) else kind for name, kind in types.items()}
    return row_facts(spark_session(), path, measure, pa.schema(plain)).cache()


def _write(source: Dataset, target: Dataset, quarantine: Path, faults: Mapping[str, Faults]) -> None:
    target.folder.mkdir(parents=True, exist_ok=True)
    if "users" not in faults:
        pq.write_table(pa.table({"user_id": pa.array([], pa.string())}), target.users)
    quarantined = [
        part(
            path,
            target.folder / path.name,
            faults[table],
            table=table,
            schema=INTERACTION_SCHEMA if table == "interactions" else pq.read_schema(path),
        )
        for table, path in _tables(source).items()
    ]
    write_quarantine(quarantine, quarantined)
    (target.folder / "split.json").write_bytes((source.folder / "split.json").read_bytes())
