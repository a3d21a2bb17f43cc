"""Where tables are computed: DuckDB on one machine, Spark on many. Both are asked the same Ibis expressions."""

import importlib.util
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from nextpage.interactions.database import connect

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


ENGINES = ("duckdb", "spark")


class Engine(Protocol):
    """Reads, computes and writes tables. What it writes is Parquet: a file of DuckDB's, a folder of Spark's."""

    def read(self, path: Path) -> ir.Table: ...

    def keep(self, table: ir.Table, name: str) -> ir.Table:
        """The table under a name of its own, computed once however often it is read."""
        ...

    def rows(self, table: ir.Table) -> list[tuple[Any, ...]]:
        """A small table as Python values."""
        ...

    def write(self, table: ir.Table, path: Path, *, row_group: int = 1_000_000) -> None:
        """Write rows in their order, `row_group` of them in memory at once where the engine is this process."""
        ...


class DuckDB:
    """In this process; what does not fit in memory is spilled into `folder`."""

    def __init__(self, folder: Path) -> None:
        self.connection = connect(folder)
        self.backend = ibis.duckdb.from_connection(self.connection)

    def read(self, path: Path) -> ir.Table:
        return self.backend.read_parquet(str(path))

    def keep(self, table: ir.Table, name: str) -> ir.Table:
        return self.backend.create_table(name, table, temp=True)

    def rows(self, table: ir.Table) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in self.table(table).to_pylist()]

    def table(self, table: ir.Table) -> pa.Table:
        return self.backend.to_pyarrow(table).cast(_schema(table))

    def write(self, table: ir.Table, path: Path, *, row_group: int = 1_000_000) -> None:
        schema = _schema(table)
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            batches = self.connection.sql(self.backend.compile(table)).to_arrow_reader(row_group)
            for rows in _regrouped(batches, row_group):
                writer.write_table(rows.cast(schema))


class Spark:
    """The session that is there, or the one that Spark's own settings describe (spark-defaults.conf)."""

    def __init__(self) -> None:
        self.session = spark_session()
        self.backend = ibis.pyspark.connect(self.session)

    def read(self, path: Path) -> ir.Table:
        return self.backend.read_parquet(str(path))

    def keep(self, table: ir.Table, name: str) -> ir.Table:
        self.backend._run_pre_execute_hooks(table)  # `cache` alone registers no functions of ours
        return table.cache()

    def rows(self, table: ir.Table) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in self.backend.to_pyarrow(table).to_pylist()]

    def frame(self, table: ir.Table) -> "DataFrame":
        """The table as Spark knows it, nothing computed."""
        self.backend.create_view("asked", table, overwrite=True)
        return self.session.table("asked")

    def write(self, table: ir.Table, path: Path, *, row_group: int = 1_000_000) -> None:
        self.backend.to_parquet(table, str(path), mode="overwrite")


def spark_session() -> "SparkSession":
    """Python workers run what this process runs.

    Times are those of UTC, in this process too: PySpark hands over moments without a zone, and Feast compares them with
    Spark's own.
    """
    from pyspark.sql import SparkSession

    os.environ["TZ"] = "UTC"
    time.tzset()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    session = SparkSession.builder.appName("nextpage").config("spark.sql.session.timeZone", "UTC").getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


def check_engine(name: str) -> None:
    """Raises ValueError where there is no such engine, or not what it needs."""
    if name not in ENGINES:
        raise ValueError(f"engine {name!r} is unknown: use {' or '.join(ENGINES)}")
    if name == "spark" and importlib.util.find_spec("pyspark") is None:
        raise ValueError("engine 'spark' needs pyspark, and it is not here: pip install 'nextpage[spark]', or duckdb")


@contextmanager
def open_engine(name: str, folder: Path) -> Iterator[DuckDB | Spark]:
    """The engine `duckdb` or `spark`; `folder` takes what is spilled while it is open. Raises as `check_engine`."""
    check_engine(name)
    if name == "spark":
        yield Spark()
        return
    with TemporaryDirectory(dir=folder, prefix=".spill-") as spill:
        engine = DuckDB(Path(spill))
        with engine.connection:
            yield engine


def _schema(table: ir.Table) -> pa.Schema:
    """Arrow's schema, any column nullable: what Ibis infers of gaps is no promise of a file."""
    return pa.schema([field.with_nullable(True) for field in table.schema().to_pyarrow()])


def _regrouped(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """The same rows, `rows` at a time."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        while sum(one.num_rows for one in waiting) >= rows:
            table = pa.Table.from_batches(waiting)
            yield table.slice(0, rows)
            waiting = table.slice(rows).to_batches()
    if waiting:
        yield pa.Table.from_batches(waiting)
