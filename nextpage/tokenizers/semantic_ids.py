"""The table of semantic IDs: what a tokenizer gives, and what everything downstream reads."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True, kw_only=True)
class SemanticIds:
    """I items with L codes each, in lexical order of their codes (ties by item id).

    In this order the items below any code prefix are one contiguous run of rows, which the trie relies on.
    Two items may share all codes.
    """

    item_ids: np.ndarray  # str objects [I]
    codes: np.ndarray  # int32 [I, L], 0 <= codes[:, l] < sizes[l]
    sizes: tuple[int, ...]  # codebook size of each level

    def __post_init__(self) -> None:
        if self.codes.shape != (len(self.item_ids), len(self.sizes)):
            raise ValueError(
                f"codes have shape {self.codes.shape}, expected ({len(self.item_ids)}, {len(self.sizes)}): "
                "one row an item, one column a level"
            )
        for level, size in enumerate(self.sizes):
            if len(self.codes) and not (self.codes[:, level].min() >= 0 and self.codes[:, level].max() < size):
                raise ValueError(f"codes of level {level} leave the range 0 to {size - 1}")

    @staticmethod
    def sorted(item_ids: np.ndarray, codes: np.ndarray, sizes: tuple[int, ...]) -> "SemanticIds":
        """Bring items into the table's order."""
        item_ids = np.asarray(item_ids, dtype=object)
        keys = (item_ids.astype(str), *(codes[:, level] for level in reversed(range(codes.shape[1]))))
        order = np.lexsort(keys)
        return SemanticIds(item_ids=item_ids[order], codes=codes[order].astype(np.int32), sizes=sizes)

    def only(self, rows: np.ndarray) -> "SemanticIds":
        """The items of a boolean vector [I], or of ascending rows, in the same order."""
        return SemanticIds(item_ids=self.item_ids[rows], codes=self.codes[rows], sizes=self.sizes)

    def write(self, path: Path) -> None:
        """As Parquet: item_id, code_0 … code_{L-1}; the sizes in the schema's metadata."""
        columns: dict[str, pa.Array] = {"item_id": pa.array(self.item_ids, pa.string())}
        columns |= {f"code_{level}": pa.array(self.codes[:, level]) for level in range(len(self.sizes))}
        sizes = ",".join(map(str, self.sizes))
        pq.write_table(pa.table(columns).replace_schema_metadata({"sizes": sizes}), path)

    @staticmethod
    def read(path: Path | BinaryIO) -> "SemanticIds":
        table = pq.read_table(path)
        metadata = table.schema.metadata or {}
        if b"sizes" not in metadata:
            raise ValueError(f"{path} has no codebook sizes in its metadata: was it written by a tokenizer?")
        sizes = tuple(int(size) for size in metadata[b"sizes"].decode().split(","))
        codes = np.stack([table[f"code_{level}"].to_numpy() for level in range(len(sizes))], axis=1)
        item_ids = np.asarray(table["item_id"].to_pylist(), dtype=object)
        return SemanticIds(item_ids=item_ids, codes=codes.astype(np.int32), sizes=sizes)
