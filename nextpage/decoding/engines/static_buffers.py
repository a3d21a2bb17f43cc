"""A catalogue and filters in memory that does not move, for a captured graph to read: a swap is a copy.

Letters in names and comments: B prompts, I items, R excluded rows, M item rows asked about.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from nextpage.decoding.trie import Trie

ROOM = 1 / 8
"""A catalogue may grow by this before its buffers are made anew."""


def with_room(size: int) -> int:
    return size + int(size * ROOM) + 1


class HeldTrie:
    """A trie whose arrays are longer than its catalogue needs. `trie` serves `static_search`, not its own `items`."""

    def __init__(self, trie: Trie, device: torch.device | str) -> None:
        def empty(arrays: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return tuple(torch.zeros(with_room(len(array)), dtype=array.dtype, device=device) for array in arrays)

        self.trie = Trie(sizes=trie.sizes, edge_codes=empty(trie.edge_codes), first_edges=empty(trie.first_edges))
        *above, last = self.trie.first_edges
        self.rows = (*map(torch.zeros_like, above[1:]), last, last)  # of level l: first item row of each node of l + 1
        self.take(trie)

    def take(self, trie: Trie) -> bool:
        """Copy a catalogue in; False, and nothing done, where it has other codes or no room."""
        pairs = [*zip(self.trie.edge_codes, trie.edge_codes, strict=False)]
        pairs += zip(self.trie.first_edges, trie.first_edges, strict=False)
        if trie.sizes != self.trie.sizes or any(len(given) > len(held) for held, given in pairs):
            return False
        for held, given in pairs:
            held[: len(given)].copy_(given)
            held[len(given) :] = held[len(given) - 1].clone()  # nodes that do not exist have no children
        for level in reversed(range(trie.levels - 2)):
            self.rows[level].copy_(self.rows[level + 1][self.trie.first_edges[level + 1]])
        return True


class HeldFilters:
    """The prefix sums of the filters asked for last, each in a slot; slot 0 allows every item."""

    def __init__(self, slots: int, items: int, device: torch.device | str) -> None:
        self.ranks = torch.arange(items + 1, dtype=torch.int32, device=device).repeat(slots + 1, 1)
        self._free = list(range(1, slots + 1))
        self._held: OrderedDict[int, tuple[int, Tensor]] = OrderedDict()  # by address, which is no other's meanwhile

    def slots(self, ranks: Sequence[Tensor | None]) -> list[int]:
        """Where each prompt's prefix sum int32 [I + 1] lies, after copies of those that are new. There must be as many
        slots as prompts."""
        return [0 if rank is None else self._slot(rank) for rank in ranks]

    def _slot(self, rank: Tensor) -> int:
        address = rank.data_ptr()
        if address not in self._held:
            slot = self._free.pop() if self._free else self._held.popitem(last=False)[1][0]
            self.ranks[slot, : len(rank)].copy_(rank)
            self._held[address] = slot, rank
        self._held.move_to_end(address)
        return self._held[address][0]

    def forget(self) -> None:
        """Filters of a catalogue that has gone."""
        self._free += [slot for slot, _ in self._held.values()]
        self._held.clear()

    def before(self, slot_B: Tensor, excluded_BR: Tensor, rows_BM: Tensor) -> Tensor:
        """`Filters.before` by slots, int64 [B]; excluded rows are ascending, padded with `filters.PADDING`."""
        place_BM = slot_B[:, None] * self.ranks.shape[1] + rows_BM
        counted_BM = torch.searchsorted(excluded_BR, rows_BM.contiguous(), out_int32=True)
        return self.ranks.flatten()[place_BM] - counted_BM
