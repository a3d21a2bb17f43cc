"""Which items a request may get: a set of items as one prefix sum, shared between requests, less a few rows of its own.

The items below a trie node are the rows from lo up to hi, so the node has an allowed item iff more allowed rows stand
before hi than before lo. That is exact at every level and needs no rebuild of the trie, however few items a filter
keeps. Counting a set costs O(I), once for all requests that share it (a shop's stock, region, category). What a
request alone must not get (seen, blocked) is a short sorted list, counted by bisection: O(log R) a node asked for.

Letters: B prompts, I items, R rows excluded, M rows asked about. Where a filter is None, every item is allowed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

PADDING = torch.iinfo(torch.int32).max
"""Stands after every row, so it is counted before none."""


def prefix_rank(allowed: Tensor) -> Tensor:
    """Number of allowed items before each row. bool [..., I] → int32 [..., I + 1]"""
    rank = allowed.new_zeros(*allowed.shape[:-1], allowed.shape[-1] + 1, dtype=torch.int32)
    torch.cumsum(allowed, dim=-1, dtype=torch.int32, out=rank[..., 1:])
    return rank


NONE = torch.empty(0, dtype=torch.int32)


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemFilter:
    """What one request may get."""

    rank: Tensor | None = None  # int32 [I + 1], `prefix_rank` of a set of items; None: all of them
    excluded: Tensor = NONE  # int32 [R], rows of that set, ascending, each once

    @staticmethod
    def of(allowed: np.ndarray | Tensor) -> "ItemFilter":
        """From a boolean vector [I]."""
        return ItemFilter(rank=prefix_rank(torch.as_tensor(allowed)))

    @property
    def nbytes(self) -> int:
        return self.excluded.nbytes + (0 if self.rank is None else self.rank.nbytes)

    def without(self, rows: Sequence[int] | np.ndarray) -> "ItemFilter":
        """The same less item rows [R], in any order; rows that it lacks already, or that come twice, do no harm."""
        distinct = np.union1d(np.asarray(rows, dtype=np.int32), self.excluded.numpy())
        counted = ItemFilter(rank=self.rank).holds(distinct)
        return ItemFilter(rank=self.rank, excluded=torch.from_numpy(distinct[counted].astype(np.int32)))

    def holds(self, rows: np.ndarray) -> np.ndarray:
        """Which of item rows int [R] it allows: bool [R]. O(R log R), never O(I)."""
        asked = torch.from_numpy(np.asarray(rows, dtype=np.int64))
        held = torch.ones(len(asked), dtype=torch.bool) if self.rank is None else self._rises(asked)
        return (held & ~torch.isin(asked, self.excluded.long())).numpy()

    def _rises(self, asked: Tensor) -> Tensor:
        assert self.rank is not None
        asked = asked.to(self.rank.device)
        return (self.rank[asked + 1] > self.rank[asked]).cpu()


@dataclass(frozen=True, kw_only=True, eq=False)
class Filters:
    """The filters of a batch, on one device."""

    ranks: tuple[Tensor | None, ...]  # one a prompt
    excluded: Tensor  # int32 [B, R], filled up with PADDING

    @staticmethod
    def of(filters: Sequence[ItemFilter | None], device: torch.device | str = "cpu") -> "Filters | None":
        """None where no filter takes anything away. A rank that lies on the device already is not copied."""
        given = [ItemFilter() if one is None else one for one in filters]
        if all(one.rank is None and not len(one.excluded) for one in given):
            return None
        excluded = torch.nn.utils.rnn.pad_sequence([one.excluded for one in given], True, PADDING)
        ranks = tuple(None if one.rank is None else one.rank.to(device) for one in given)
        return Filters(ranks=ranks, excluded=excluded.to(device))

    @staticmethod
    def dense(allowed: Tensor, batch: int) -> "Filters":
        """From bool [B, I], or [1, I] which all prompts share."""
        return Filters(
            ranks=tuple(prefix_rank(allowed).expand(batch, -1).unbind()),
            excluded=torch.empty(batch, 0, dtype=torch.int32, device=allowed.device),
        )

    def before(self, rows_BM: Tensor) -> Tensor:
        """How many allowed items stand before each row: int32 [B, M] of int32 [B, M], 0 ≤ row ≤ I."""
        first = self.ranks[0]
        if all(rank is first for rank in self.ranks):
            ranked = rows_BM if first is None else first.expand(len(rows_BM), -1).gather(1, rows_BM.long())
        else:
            asked = zip(self.ranks, rows_BM, strict=True)
            ranked = torch.stack([rows if rank is None else rank.gather(0, rows.long()) for rank, rows in asked])
        if not self.excluded.shape[1]:
            return ranked
        return ranked - torch.searchsorted(self.excluded, rows_BM.contiguous(), out_int32=True)

    def allowed(self, items: int) -> Tensor:
        """As booleans, [B, I]: O(B · I)."""
        rows = torch.arange(items + 1, dtype=torch.int32, device=self.excluded.device)
        return self.before(rows.expand(len(self.ranks), -1)).diff(dim=1) > 0
