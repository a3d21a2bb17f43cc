"""The items of a release as requests see them: ids, texts, and attributes to filter by."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from serving.errors import InvalidRequest
from serving.schema import SlateRequest

NOT_ATTRIBUTES = ("item_id", "text")


class Catalogue:
    """I items by row. Every string column beside id and text can be filtered by."""

    def __init__(self, items: pa.Table) -> None:
        self.item_ids: list[str] = items["item_id"].to_pylist()
        self.texts: list[str | None] = (
            items["text"].to_pylist() if "text" in items.column_names else [None] * items.num_rows
        )
        self.row_of = {item_id: row for row, item_id in enumerate(self.item_ids)}
        self._attributes = {
            name: _encoded(items[name])
            for name in items.column_names
            if name not in NOT_ATTRIBUTES
            and (pa.types.is_string(items[name].type) or pa.types.is_large_string(items[name].type))
        }

    def __len__(self) -> int:
        return len(self.item_ids)

    def check(self, request: SlateRequest) -> None:
        """Raise InvalidRequest where a filter names an attribute that the catalogue lacks. Cheap."""
        for name in request.filters:
            if name not in self._attributes:
                known = ", ".join(self._attributes) or "none"
                raise InvalidRequest(f"filters.{name} is no attribute of the catalogue: known are {known}")

    def allowed(self, request: SlateRequest) -> np.ndarray[Any, Any] | None:
        """bool [I]: what the filters, the stock, the exclusions and the seen rule leave; None where all is left.

        O(I) where anything is filtered: call it off the event loop.
        """
        hidden = list(request.exclude)
        if request.seen == "exclude" and request.history is not None:
            hidden += request.history.items
        if not hidden and not request.filters and request.stock is None:
            return None
        allowed = np.ones(len(self), dtype=bool)
        if request.stock is not None:
            allowed[:] = False
            allowed[self._rows(request.stock)] = True
        for name, wanted in request.filters.items():
            values, code = self._attributes[name]
            passes = np.zeros(len(values) + 1, dtype=bool)  # the last place is that of null, code -1
            passes[[values[value] for value in wanted if value in values]] = True
            allowed &= passes[code]
        allowed[self._rows(hidden)] = False
        return allowed

    def _rows(self, item_ids: Any) -> list[int]:
        """Rows of the items that are known; one that left the catalogue needs no hiding."""
        return [self.row_of[item_id] for item_id in item_ids if item_id in self.row_of]


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _encoded(column: pa.ChunkedArray) -> tuple[dict[str, int], np.ndarray[Any, Any]]:
    """The code of each value, and int32 [I] with the code of each row (-1 where null)."""
    coded = pa.compute.dictionary_encode(column).combine_chunks()
    values = {value: code for code, value in enumerate(coded.dictionary.to_pylist())}
    return values, np.asarray(coded.indices.fill_null(-1), dtype=np.int32)
