"""Part a table in two: the rows that stay, and the rows that leave with their reasons."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


class Faults:
    """Which faults each row of a table has. A fault is one bit, so 64 kinds of fault at most."""

    def __init__(self, rows: int) -> None:
        self.kinds: list[str] = []
        self.bits = np.zeros(rows, dtype=np.uint64)

    def add(self, kind: str, rows: np.ndarray) -> None:
        if len(self.kinds) == 64:
            raise ValueError(f"fault {kind!r} is the 65th of its table: a suite holds 64 row expectations at most")
        self.bits[rows] |= np.uint64(1 << len(self.kinds))
        self.kinds.append(kind)

    def sound(self) -> np.ndarray:
        """Which rows have no fault: bool [rows]."""
        return self.bits == 0

    def count(self) -> int:
        return int(np.count_nonzero(self.bits))

    def share(self) -> float:
        return self.count() / max(len(self.bits), 1)

    def reasons(self, bits: np.ndarray) -> list[str]:
        """For each row's bits, its faults in words."""
        words = {
            int(one): "; ".join(kind for place, kind in enumerate(self.kinds) if int(one) >> place & 1)
            for one in np.unique(bits)
        }
        return [words[int(one)] for one in bits]


def part(source: Path, clean: Path, faults: Faults, *, table: str, schema: pa.Schema) -> pa.Table:
    """Write the sound rows, in order and as `schema`, to `clean`; return the others, all columns as they came.

    The returned table starts with the columns `table`, `row` (from 0 in the source) and `reason`. Memory is that of one
    batch and of the quarantined rows.
    """
    quarantined: list[pa.Table] = []
    start = 0
    with pq.ParquetFile(source) as file, pq.ParquetWriter(clean, schema) as writer:
        for batch in file.iter_batches():
            bits = faults.bits[start : start + batch.num_rows]
            rows = np.arange(start, start + batch.num_rows)[bits != 0]
            start += batch.num_rows
            writer.write_table(_as(pa.Table.from_batches([batch.filter(pa.array(bits == 0))]), schema))
            if len(rows):
                quarantined.append(
                    _marked(batch.filter(pa.array(bits != 0)), table, rows, faults.reasons(bits[bits != 0]))
                )
        nothing = file.schema_arrow.empty_table().combine_chunks()
    return pa.concat_tables([_marked(nothing, table, np.zeros(0, np.int64), []), *quarantined])


def write_quarantine(path: Path, tables: Sequence[pa.Table]) -> None:
    """One file for all tables. A column that two tables type differently becomes text."""
    kinds: dict[str, set[pa.DataType]] = {}
    for table in tables:
        for field in table.schema:
            kinds.setdefault(field.name, set()).add(field.type)
    mixed = {name for name, types in kinds.items() if len(types) > 1}
    plain = [
        table.cast(pa.schema([pa.field(f.name, pa.string() if f.name in mixed else f.type) for f in table.schema]))
        for table in tables
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.concat_tables(plain, promote_options="default"), path)


def _as(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        table[field.name] if field.name in table.column_names else pa.nulls(len(table), field.type) for field in schema
    ]
    return pa.table(columns, names=schema.names).cast(schema, safe=False)


def _marked(rows: pa.RecordBatch | pa.Table, table: str, numbers: np.ndarray, reasons: list[str]) -> pa.Table:
    marks = {
        "table": pa.array([table] * len(numbers), pa.string()),
        "row": pa.array(numbers, pa.int64()),
        "reason": pa.array(reasons, pa.string()),
    }
    own = {name: rows.column(name) for name in rows.schema.names}
    return pa.table(marks | {(f"{name}_" if name in marks else name): column for name, column in own.items()})
