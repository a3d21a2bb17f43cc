"""Validate a dataset folder: schema, rows, how rows stand to one another, the data set as a whole."""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.validate import facts
from components.validate.bounds import ValidationBounds
from components.validate.docs import write_docs
from components.validate.expectations import Finding, asked_columns, check
from components.validate.quarantine import Faults, part, write_quarantine
from components.validate.source import UnreadableError, column_types
from nextpage.gates import Verdict
from nextpage.interactions.log import INTERACTION_SCHEMA, Dataset, Split

if TYPE_CHECKING:
    import pandas as pd

GATE = "data quality"


@dataclass(kw_only=True)
class Validation:
    """What was found. `rows` and `quarantined` count by table; `left_out` names the log's columns outside the schema."""

    verdict: Verdict = field(default_factory=lambda: Verdict(gate=GATE, passed=False, reasons=("not judged yet",)))
    findings: list[Finding] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def figures(self) -> dict[str, float]:
        """Rows in and rows in quarantine by table, for the metrics of the step."""
        rows = {f"{table}_rows": float(count) for table, count in self.rows.items()}
        return rows | {f"{table}_quarantined": float(count) for table, count in self.quarantined.items()}


def validate(raw: Path, clean: Path, quarantine: Path, docs: Path, bounds: ValidationBounds) -> Validation:
    """Judge the dataset folder `raw`.

    Writes the sound rows to the folder `clean` (same layout; the log exactly in INTERACTION_SCHEMA, in the order of the
    source), the others to the Parquet file `quarantine` with `table`, `row` and `reason`, and Great Expectations' Data
    Docs to the HTML file `docs`. Of each table, clean rows + quarantined rows = rows. Where a file cannot be read or a
    schema is wrong, no row can be judged and only `docs` is written. Use `clean` only where the verdict passed.
    """
    found = Validation()
    try:
        _judge(Dataset(folder=raw), Dataset(folder=clean), quarantine, bounds, found)
    except UnreadableError as error:
        reasons: tuple[str, ...] = (str(error),)
    else:
        reasons = tuple(one.sentence() for one in found.findings if not one.passed)[:1]
    good = (f"{sum(found.rows.values()):,} rows kept {len(found.findings)} expectations", *_quarantine_note(found))
    found.verdict = Verdict(gate=GATE, passed=not reasons, reasons=reasons or good)
    write_docs(docs, found.findings, found.verdict)
    return found


def _judge(raw: Dataset, clean: Dataset, quarantine: Path, bounds: ValidationBounds, found: Validation) -> None:
    parameters = bounds.suite_parameters() | {"now": time.time()}

    def ask(table: str, stage: str, frame: "pd.DataFrame") -> tuple[Finding, ...]:
        answers = check(frame, table=table, stage=stage, parameters=parameters)
        found.findings.extend(answers)
        return answers

    paths = {"items": raw.items, "users": raw.users, "interactions": raw.interactions}
    if not raw.users.exists():
        del paths["users"]
    types = {table: column_types(path) for table, path in paths.items()}
    split = _split(raw)
    for table, columns in types.items():
        ask(table, "schema", facts.schema_facts(columns, asked_columns(table, "schema")))
    if not all(one.passed for one in found.findings):
        return

    def faults_of(table: str, by_row: "pd.DataFrame", relation: Callable[[np.ndarray], "pd.DataFrame"]) -> Faults:
        faults = Faults(len(by_row))
        _add(faults, ask(table, "row", by_row))
        _add(faults, ask(table, "relation", relation(faults.faulty())))
        return faults

    faults = {
        "items": faults_of(
            "items",
            facts.item_row_facts(raw.items),
            lambda faulty: facts.repeat_facts(raw.items, "item_id", faulty),
        )
    }
    if "users" in paths:
        faults["users"] = faults_of(
            "users",
            facts.user_row_facts(raw.users),
            lambda faulty: facts.repeat_facts(raw.users, "user_id", faulty),
        )
    faults["interactions"] = faults_of(
        "interactions",
        facts.interaction_row_facts(raw.interactions, types["interactions"]),
        lambda faulty: facts.interaction_relation_facts(raw.interactions, faulty, raw.items, faults["items"].faulty()),
    )
    found.rows = {table: len(one.bits) for table, one in faults.items()}
    found.quarantined = {table: len(one.faulty()) for table, one in faults.items()}
    found.left_out = tuple(sorted(set(types["interactions"]) - set(INTERACTION_SCHEMA.names)))
    _write(raw, clean, quarantine, faults)
    shares = {table: found.quarantined[table] / max(found.rows[table], 1) for table in found.rows}
    shares.setdefault("users", 0.0)
    ask("dataset", "figure", facts.dataset_facts(clean, split, shares, parameters["now"]))


def _add(faults: Faults, findings: Iterable[Finding]) -> None:
    for one in findings:
        faults.add(one.fault, one.rows)


def _write(raw: Dataset, clean: Dataset, quarantine: Path, faults: dict[str, Faults]) -> None:
    clean.folder.mkdir(parents=True, exist_ok=True)
    places = {
        "interactions": (raw.interactions, clean.interactions, INTERACTION_SCHEMA),
        "items": (raw.items, clean.items, pq.read_schema(raw.items)),
    }
    if "users" in faults:
        places["users"] = (raw.users, clean.users, pq.read_schema(raw.users))
    else:
        pq.write_table(pa.table({"user_id": pa.array([], pa.string())}), clean.users)
    write_quarantine(
        quarantine,
        [
            part(source, target, faults[table], table=table, schema=schema)
            for table, (source, target, schema) in places.items()
        ],
    )
    (clean.folder / "split.json").write_bytes((raw.folder / "split.json").read_bytes())


def _split(raw: Dataset) -> Split:
    remedy = "write it as {kind: time, validation_start, test_start} with zones, or {kind: leave_one_out}"
    try:
        split = raw.split()
    except FileNotFoundError as error:
        raise UnreadableError(f"split.json: expected a file, found nothing there; {remedy}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnreadableError(f"split.json: expected a split, found another content ({error}); {remedy}") from error
    for name in ("validation_start", "test_start"):
        moment = getattr(split, name)
        if moment is not None and moment.tzinfo is None:
            raise UnreadableError(f"split.json: expected a zone in {name}, found {moment} without one; {remedy}")
    return split


def _quarantine_note(found: Validation) -> tuple[str, ...]:
    return tuple(
        f"{count:,} of {found.rows[table]:,} rows of {table} are in quarantine"
        for table, count in found.quarantined.items()
    )


def card(found: Validation, bounds: ValidationBounds) -> str:
    """The Markdown card: verdict, rows by table, faults, and the figures of the whole against their bounds."""
    lines = [f"# Data quality: {'passed' if found.verdict.passed else 'FAILED'}", ""]
    lines += [*(f"- {reason}" for reason in found.verdict.reasons), ""]
    lines += ["| table | rows | clean | quarantined |", "|---|---:|---:|---:|"]
    for table, rows in found.rows.items():
        bad = found.quarantined[table]
        lines.append(f"| {table} | {rows:,} | {rows - bad:,} | {bad:,} |")
    by_row = [one for one in found.findings if one.by_row and len(one.rows)]
    if by_row:
        lines += ["", "| quarantined from | fault | rows | bound |", "|---|---|---:|---|"]
        lines += [f"| {one.table} | {one.fault} | {len(one.rows):,} | {one.bound()} |" for one in by_row]
    whole = [one for one in found.findings if one.table == "dataset"]
    if whole:
        lines += ["", "| figure of the clean data | value | bound | kept |", "|---|---:|---|---|"]
        lines += [
            f"| {one.column} | {one.value()} | {one.bound()} | {'yes' if one.passed else 'NO'} |" for one in whole
        ]
    if found.left_out:
        lines += ["", f"Columns of the log outside the schema, left out: {', '.join(found.left_out)}."]
    lines += ["", f"Bounds: `{json.dumps(bounds.suite_parameters())}`"]
    return "\n".join(lines) + "\n"
