"""What can be recommended now: the items, their trie and all that is looked up by row, as one value.

A release brings its own; a shop whose items come and go swaps another one in between two batches. Whoever answers takes
the value once and asks nothing else of rows, so an answer is of one catalogue whatever is swapped meanwhile.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from nextpage.decoding.trie import Trie
from nextpage.tokenizers.semantic_ids import SemanticIds
from nextpage.tokenizers.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True, eq=False)
class ServedCatalogue:
    """I items by row, and after them the D departed: in histories they are read as before, recommended they are not."""

    hash: str  # "" where it is the release's own
    semantic_ids: SemanticIds  # of the I items
    departed: SemanticIds | None
    items: pa.Table  # [I]: item_id, orders and what else is known of them
    trie: Trie
    popular: np.ndarray  # int32 [I], rows by their orders, most first
    item_tokens: np.ndarray  # int64 [I + D, L]
    row: dict[str, int]  # of all I + D

    @staticmethod
    def of(
        semantic_ids: SemanticIds, items: pa.Table, *, departed: SemanticIds | None = None, hash: str = ""
    ) -> "ServedCatalogue":
        """O(I). Raises ValueError where the two tables do not hold the same items in the same order."""
        if items["item_id"].to_pylist() != semantic_ids.item_ids.tolist():
            raise ValueError(
                f"the item table's {items.num_rows} rows are not the {len(semantic_ids.item_ids)} items of the "
                "semantic IDs in their order: were they written together?"
            )
        read = [semantic_ids] if departed is None else [semantic_ids, departed]
        item_ids = (item_id for table in read for item_id in table.item_ids.tolist())
        return ServedCatalogue(
            hash=hash,
            semantic_ids=semantic_ids,
            departed=departed,
            items=items,
            trie=Trie.build(semantic_ids),
            popular=np.argsort(-items["orders"].to_numpy(), kind="stable").astype(np.int32),
            item_tokens=Vocabulary(semantic_ids.sizes).tokens(np.concatenate([table.codes for table in read])),
            row={item_id: row for row, item_id in enumerate(item_ids)},
        )

    @property
    def known(self) -> SemanticIds:
        """All I + D items in the order of their codes: whose codes are taken."""
        if self.departed is None:
            return self.semantic_ids
        item_ids = np.concatenate([self.semantic_ids.item_ids, self.departed.item_ids])
        codes = np.concatenate([self.semantic_ids.codes, self.departed.codes])
        return SemanticIds.sorted(item_ids, codes, self.semantic_ids.sizes)

    def __len__(self) -> int:
        """I"""
        return len(self.semantic_ids.item_ids)
