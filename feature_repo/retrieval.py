"""The point-in-time training set: Feast's answer to "what was known of this user then?", in batches."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from feast import FeatureStore

from feature_repo.snapshots import HISTORY_COLUMNS
from feature_repo.store import offline
from nextpage.progress import track

ROWS_AT_ONCE = 1_000
"""Entities in one question. Feast joins each with all earlier snapshots of its user: memory grows with this."""


def retrieve_histories(store: FeatureStore, service: str, asked: pa.Table, path: Path) -> None:
    """Write `asked` with each row's history as of its moment, in the same order.

    `asked`: user_id, event_timestamp (written as as_of), and any columns to carry along. Raises RuntimeError where a
    row finds no history: its snapshot is missing, and null would read as an empty one.
    """
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
            missing = found["history_item"].null_count
            if missing:
                raise RuntimeError(f"{missing} of {batch.num_rows} rows of {path.name} found no snapshot")
            in_order = found.sort_by("row").rename_columns({"event_timestamp": "as_of"})
            writer.write_table(in_order.select(schema.names).cast(schema))
