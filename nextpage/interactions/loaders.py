"""One door for every source: `load` writes any of them as the dataset folder of `log.py`.

Behind it a source is a frozen dataclass of options and one function, which defines the relations `interactions`,
`items` and `users` in a DuckDB connection and returns the split.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from nextpage.interactions.amazon import Amazon, read_amazon
from nextpage.interactions.columns import Columns, read_columns
from nextpage.interactions.complete_journey import CompleteJourney, read_complete_journey
from nextpage.interactions.database import connect
from nextpage.interactions.log import INTERACTION_SCHEMA, ITEM_COLUMNS, USER_COLUMNS, Dataset, Split
from nextpage.interactions.movielens import MovieLens, read_movielens

ROWS_A_BATCH = 200_000

LOADERS: dict[str, tuple[type[Any], Callable[[Any, duckdb.DuckDBPyConnection], Split]]] = {
    "completejourney": (CompleteJourney, read_complete_journey),
    "movielens": (MovieLens, read_movielens),
    "amazon": (Amazon, read_amazon),
    "columns": (Columns, read_columns),
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a log comes from: a name in `LOADERS`, and the options of its dataclass."""

    name: str = "completejourney"
    options: Mapping[str, object] = field(default_factory=dict)


def load(source: Source, folder: Path) -> Dataset:
    """Write `source` as a dataset into `folder`, whole or not at all.

    Rows are sorted by user, page and position. What does not fit in memory is spilled into `folder`
    meanwhile. Raises ValueError for an unknown source or option.
    """
    if source.name not in LOADERS:
        raise ValueError(f"source {source.name!r} is unknown: use one of {', '.join(LOADERS)}")
    config_type, read = LOADERS[source.name]
    known = [option.name for option in fields(config_type)]
    for option in source.options:
        if option not in known:
            raise ValueError(f"source {source.name!r} has no option {option!r}: use {', '.join(known)}")
    config = config_type(**source.options)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".partial-") as scratch:
        partial = Dataset(folder=Path(scratch))
        with connect(partial.folder / "spill") as connection:
            partial.write_split(read(config, connection))
            _write_interactions(connection, partial.interactions)
            _write_strings(connection, "items", partial.items, ITEM_COLUMNS)
            _write_strings(connection, "users", partial.users, USER_COLUMNS)
        for name in ("interactions.parquet", "items.parquet", "users.parquet", "split.json"):
            os.replace(partial.folder / name, folder / name)
    return Dataset(folder=folder)


def _write_interactions(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """In `INTERACTION_SCHEMA`; a required column with gaps, which only the validation may judge, is nullable."""
    counts = ", ".join(f"count(*) - count({name})" for name in INTERACTION_SCHEMA.names)
    gaps = connection.execute(f"select {counts} from interactions").fetchall()[0]
    schema = pa.schema(
        [column.with_nullable(column.nullable or gap > 0) for column, gap in zip(INTERACTION_SCHEMA, gaps, strict=True)]
    )
    columns = ", ".join(schema.names)
    _stream(connection, f"select {columns} from interactions order by user_id, page, position", path, schema)


def _write_strings(connection: duckdb.DuckDBPyConnection, relation: str, path: Path, first: tuple[str, ...]) -> None:
    """All columns as strings, those of `first` in front; rows sorted by the id, `first[0]`."""
    names = [name for name, *_ in connection.execute(f"describe {relation}").fetchall()]
    columns = (*first, *(name for name in names if name not in first))
    schema = pa.schema([(name, pa.string()) for name in columns])
    _stream(connection, f"from {relation} order by {first[0]}", path, schema)


def _stream(connection: duckdb.DuckDBPyConnection, query: str, path: Path, schema: pa.Schema) -> None:
    """Write the query's rows batch by batch."""
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in connection.sql(query).to_arrow_reader(ROWS_A_BATCH):
            table = pa.Table.from_batches([batch]).select(schema.names)
            writer.write_table(table.cast(schema))
