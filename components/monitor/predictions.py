"""What a release recommends for held-out pages, in the form in which a server logs what it showed."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nextpage.interactions.sequences import sequences_from_table

SCHEMA = pa.schema(
    [
        pa.field("request_id", pa.string()),
        pa.field("time", pa.timestamp("us", tz="UTC")),
        pa.field("position", pa.int64()),
        pa.field("item_id", pa.string()),
        pa.field("score", pa.float64()),
    ]
)


def predict(release: Path, features: Path, predictions: Path, *, requests: int, depth: int) -> None:
    """Write the first `depth` items for `requests` held-out pages, spread evenly over their time; scores are null.

    The pages are those of `features/evaluation.parquet`, validation and test: training has seen neither, so that the
    earlier half and the later one can be compared.
    """
    from nextpage.recommender import load_recommender

    recommender = load_recommender(release)
    item_ids = recommender.semantic_ids.item_ids
    table = pq.read_table(features / "evaluation.parquet").sort_by(
        [("as_of", "ascending"), ("request_id", "ascending")]
    )
    table = table.take(np.unique(np.linspace(0, len(table) - 1, min(requests, len(table))).astype(np.int64)))
    rows = recommender.rank(sequences_from_table(table, item_ids.tolist()), depth)  # [R, depth], -1 where fewer
    request, position = np.nonzero(rows >= 0)
    columns = {
        "request_id": table["request_id"].take(request).cast(pa.string()),
        "time": table["as_of"].take(request).cast(SCHEMA.field("time").type),
        "position": pa.array(position),
        "item_id": pa.array(item_ids[rows[request, position]], pa.string()),
        "score": pa.nulls(len(request), pa.float64()),
    }
    pq.write_table(pa.table(columns, schema=SCHEMA), predictions)


def write_none(predictions: Path) -> None:
    """A file without a row, where there is no release to ask."""
    pq.write_table(SCHEMA.empty_table(), predictions)
