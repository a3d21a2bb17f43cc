"""Filters that requests share: counted once, used until others push them out."""

from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np

from nextpage.decoding.filters import ItemFilter


class FilterCache:
    """Item filters of one catalogue by key, the latest used, up to `most_bytes`: 4 bytes an item each.

    For one thread. It lives and ends with its catalogue, whose rows it counts; so a swap leaves no stale filter.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.hits = self.misses = self.nbytes = 0
        self._filters: OrderedDict[Hashable, ItemFilter] = OrderedDict()  # the least recently used first

    def get(self, key: Hashable, allowed: Callable[[], np.ndarray]) -> ItemFilter:
        """The filter of a key; where it is not kept, made of `allowed()`, bool [I]."""
        found = self._filters.get(key)
        if found is not None:
            self.hits += 1
            self._filters.move_to_end(key)
            return found
        self.misses += 1
        made = ItemFilter.of(allowed())
        if made.nbytes <= self.most_bytes:
            self._filters[key] = made
            self.nbytes += made.nbytes
        while self.nbytes > self.most_bytes:
            _, dropped = self._filters.popitem(last=False)
            self.nbytes -= dropped.nbytes
        return made
