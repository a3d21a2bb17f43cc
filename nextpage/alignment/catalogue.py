"""What rewards know of the items."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nextpage.evaluation.beyond_accuracy import popularity_percentile
from nextpage.interactions.database import connect
from nextpage.interactions.log import Dataset
from nextpage.interactions.splits import SPLITS, pages_query
from nextpage.tokenizers.item_tokenizer import ItemTokenizer
from nextpage.tokenizers.semantic_ids import SemanticIds


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """What is known of the I items, by row."""

    vectors: np.ndarray  # float32 [I, D], of length 1: what the codes say of an item, less what they say of all
    category: np.ndarray  # int64 [I]
    price: np.ndarray  # float32 [I], percentile of the mean value of an order
    first_seen: np.ndarray  # int64 [I], seconds since 1970; the log's first moment where training never showed it


def read_catalogue(release: Path, dataset: Dataset) -> Catalogue:
    """Of a release folder, and of the training period of the dataset that it was made from.

    A catalogue without categories takes the first code of the semantic ID for one.
    """
    semantic_ids = SemanticIds.read(release / "semantic_ids.parquet")
    vectors = ItemTokenizer.load(release / "tokenizer").quantiser.decode(semantic_ids.codes)
    vectors -= vectors.mean(axis=0)  # else any two items are much alike
    items = pq.read_table(release / "items.parquet")
    category = semantic_ids.codes[:, 0].astype(np.int64)
    if "category" in items.column_names:
        names = np.asarray(items["category"].fill_null("").to_pylist(), dtype=str)
        category = np.unique(names, return_inverse=True)[1]
    price, first_seen = _from_log(dataset, semantic_ids.item_ids)
    return Catalogue(
        vectors=vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12),
        category=category,
        price=price,
        first_seen=first_seen,
    )


def _from_log(dataset: Dataset, item_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Percentile of the mean value, float32 [I], .5 where nothing is known; and the first moment, int64 [I]."""
    with connect() as connection:
        connection.read_parquet(str(dataset.interactions)).create_view("interactions")
        rows = pa.table({"item_id": pa.array(item_ids, pa.string()), "row": np.arange(len(item_ids))})
        connection.register("catalogue", rows)
        found = connection.sql(
            f"""
            select row, avg(value) filter (behaviour = 'ordered') as value,
                   min(epoch_us(interactions.timestamp)) // 1000000 as first_seen
            from interactions join catalogue using (item_id)
                 join ({pages_query(dataset.split())}) as pages using (user_id, request_id)
            where split = '{SPLITS[0]}' group by row
            """
        ).to_arrow_table()
    row = found["row"].to_numpy()
    moments = found["first_seen"].to_numpy()
    first_seen = np.full(len(item_ids), moments.min() if len(moments) else 0, dtype=np.int64)
    first_seen[row] = moments
    value = np.asarray(found["value"].to_numpy(), dtype=np.float64)
    known = np.isfinite(value)
    price = np.full(len(item_ids), 0.5, dtype=np.float32)
    price[row[known]] = popularity_percentile(value[known])
    return price, first_seen
