"""The point-in-time training set: Feast's answer to "what was known of this user then?"."""

from pathlib import Path

import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
from feast import FeatureStore

from feature_repo.engines import DuckDB, Spark
from feature_repo.events import EVENT
from feature_repo.store import offline
from nextpage.progress import track

ROWS_AT_ONCE = 1_000
"""Entities in a question to DuckDB. Feast joins each with all earlier snapshots of its user: memory grows with this."""

HISTORY_COLUMNS = [pa.field(f"history_{name}", pa.list_(pa.type_for_alias(kind))) for name, kind in EVENT.items()]


def retrieve_histories(store: FeatureStore, service: str, asked: ir.Table, path: Path, engine: DuckDB | Spark) -> int:
    """Write `asked` with each row's history as of its moment, by its columns in turn; returns the number of rows.

    `asked`: user_id, event_timestamp (written as as_of), and any columns to carry along. Raises RuntimeError where a
    row finds no history: its snapshot is missing, and null would read as an empty one.
    """
    if isinstance(engine, Spark):
        return _at_once(store, service, asked, path, engine)
    return _in_batches(store, service, engine.table(asked.order_by(asked.columns)), path)


def _in_batches(store: FeatureStore, service: str, asked: pa.Table, path: Path) -> int:
    path = path.resolve()
    carried = [field.with_name("as_of") if field.name == "event_timestamp" else field for field in asked.schema]
    schema = pa.schema([*carried, *HISTORY_COLUMNS])
    starts = range(0, asked.num_rows, ROWS_AT_ONCE)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer, offline(store):
        features = store.get_feature_service(service)
        for start in track(starts, total=len(starts), unit="batch", title=f"{path.stem} histories"):
            batch = asked.slice(start, ROWS_AT_ONCE)
            numbered = batch.append_column("row", pa.array(range(batch.num_rows), pa.int64()))
            found = store.get_historical_features(entity_df=numbered.to_pandas(), features=features).to_arrow()
            _no_gaps(found["history_item"].null_count, batch.num_rows, path)
            in_order = found.sort_by("row").rename_columns({"event_timestamp": "as_of"})
            writer.write_table(in_order.select(schema.names).cast(schema))
    return asked.num_rows


def _at_once(store: FeatureStore, service: str, asked: ir.Table, path: Path, engine: Spark) -> int:
    features = store.get_feature_service(service)
    found = store.get_historical_features(entity_df=engine.frame(asked), features=features).to_spark_df()
    columns = [*asked.columns, *(field.name for field in HISTORY_COLUMNS)]
    in_order = found.select(*columns).orderBy(*asked.columns).withColumnRenamed("event_timestamp", "as_of")
    in_order.write.parquet(str(path), mode="overwrite")
    written = engine.read(path)
    ((rows, missing),) = engine.rows(written.agg(rows=written.count(), missing=written.history_item.isnull().sum()))
    _no_gaps(missing or 0, rows, path)
    return rows


def _no_gaps(missing: int, rows: int, path: Path) -> None:
    if missing:
        raise RuntimeError(f"{missing} of {rows} rows of {path.name} found no snapshot")
