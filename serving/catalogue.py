"""The catalogue that is served, as requests see it: ids, texts, and attributes to filter by."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from nextpage.decoding.filter_cache import FilterCache
from nextpage.decoding.filters import ItemFilter
from nextpage.decoding.served_catalogue import ServedCatalogue
from serving.errors import InvalidRequest
from serving.schema import SlateRequest

NOT_ATTRIBUTES = ("item_id", "text")
FILTER_BYTES = 256 << 20


class Catalogue:
    """I items by row. Every string column beside id and text can be filtered by."""

    def __init__(self, served: ServedCatalogue) -> None:
        items = served.items
        self.served = served
        self.item_ids: list[str] = served.semantic_ids.item_ids.tolist()
        self.texts: list[str | None] = (
            items["text"].to_pylist() if "text" in items.column_names else [None] * items.num_rows
        )
        self._attributes = {
            name: _encoded(items[name])
            for name in items.column_names
            if name not in NOT_ATTRIBUTES and _is_text(items[name].type)
        }
        self._filters = FilterCache(FILTER_BYTES)

    def __len__(self) -> int:
        return len(self.item_ids)

    def check(self, request: SlateRequest) -> None:
        """Raise InvalidRequest where a filter names an attribute that the catalogue lacks. Cheap."""
        for name in request.filters:
            if name not in self._attributes:
                known = ", ".join(self._attributes) or "none"
                raise InvalidRequest(f"filters.{name} is no attribute of the catalogue: known are {known}")

    def allowed(self, request: SlateRequest) -> ItemFilter | None:
        """What the filters, the stock, the exclusions and the seen rule leave; None where all is left.

        Filters and stock cost O(I) the first time that they come, and are looked up after that; exclusions and the seen
        cost what they are long. Call it off the event loop, and from one thread. Raises as `check` does.
        """
        hidden = list(request.exclude)
        if request.seen == "exclude" and request.history is not None:
            hidden += request.history.items
        shared = None
        if request.filters or request.stock is not None:
            shared = self._filters.get(_key(request), lambda: self._passing(request))
        return (shared or ItemFilter()).without(self._rows(hidden)) if hidden else shared

    def _passing(self, request: SlateRequest) -> np.ndarray[Any, Any]:
        """bool [I]: what filters and stock leave."""
        self.check(request)  # by this catalogue, which may have come after the request did
        allowed = np.full(len(self), request.stock is None)
        if request.stock is not None:
            allowed[self._rows(request.stock)] = True
        for name, wanted in request.filters.items():
            values, code = self._attributes[name]
            passes = np.zeros(len(values) + 1, dtype=bool)  # the last place is that of null, code -1
            passes[[values[value] for value in wanted if value in values]] = True
            allowed &= passes[code]
        return allowed

    def _rows(self, item_ids: Iterable[str]) -> list[int]:
        """Rows of the items that are there; one that left the catalogue needs no hiding."""
        rows = (self.served.row.get(item_id, len(self)) for item_id in item_ids)
        return [row for row in rows if row < len(self)]


def _key(request: SlateRequest) -> tuple[Any, ...]:
    """What two requests must share to share a filter: the same attributes and values in any order, the same stock."""
    filters = tuple(sorted((name, tuple(sorted(set(values)))) for name, values in request.filters.items()))
    if request.stock is None:
        return filters, None
    return filters, hashlib.sha256(json.dumps(request.stock).encode()).digest()


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _encoded(column: pa.ChunkedArray) -> tuple[dict[str, int], np.ndarray[Any, Any]]:
    """The code of each value, and int32 [I] with the code of each row (-1 where null)."""
    coded = pa.compute.dictionary_encode(column).combine_chunks()
    values = {value: code for code, value in enumerate(coded.dictionary.to_pylist())}
    return values, np.asarray(coded.indices.fill_null(-1), dtype=np.int32)
