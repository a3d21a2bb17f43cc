"""The facts of rows by themselves, measured by Spark's workers with the functions that one machine uses."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from components.validate.expectations import ROW
from components.validate.facts import Columns

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession

TEXT = ("user_id", "request_id", "item_id", "behaviour", "text")
"""Columns that facts.py reads as codes into their distinct values."""


def row_facts(
    session: "SparkSession", path: Path, measure: Callable[[Columns], "pd.DataFrame"], schema: pa.Schema
) -> "DataFrame":
    """What `measure` (of facts.py) says of each row of a table's one Parquet file, with its number as `row`.

    `schema` are the columns that `measure` reads. Numbers are doubles, and null where pandas has NaN.
    """
    from pyspark.sql.pandas.types import from_arrow_schema

    def facts(batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = {name: _encoded(name, batch.column(name)) for name in schema.names}
        measured = measure(columns)
        return pa.record_batch({name: _plain(measured[name]) for name in measured} | {ROW: batch.column(ROW)})

    def of_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return map(facts, batches)

    table = session.read.parquet(str(path))
    numbered = table.select(*schema.names, table["_metadata.row_index"].alias(ROW))
    empty = pa.RecordBatch.from_pylist([], schema=pa.schema([*schema, pa.field(ROW, pa.int64())]))
    return numbered.mapInArrow(of_batches, from_arrow_schema(facts(empty).schema))


def _encoded(name: str, column: pa.Array) -> pa.Array:
    return column.dictionary_encode() if name in TEXT else column


def _plain(values: "pd.Series") -> pa.Array:
    """Numbers as doubles, text as text: a column without rows would be of no type."""
    column = pa.Array.from_pandas(values)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return column.cast(pa.float64())
    return column.cast(pa.string()) if pa.types.is_null(column.type) else column
