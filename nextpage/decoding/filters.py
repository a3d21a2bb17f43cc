"""Which items a request may get: boolean vectors over item rows, joined with AND and turned into one prefix sum.

The items below a trie node are the rows from lo up to hi, so the node has an allowed item iff rank[hi] > rank[lo].
That is exact at every level and needs no rebuild of the trie, however few items a filter keeps.

Letters: B prompts, or 1 where all prompts share the filter; I items. Where a filter is None, every item is allowed.
"""

import torch
from torch import Tensor


def excluding(rows: Tensor, items: int) -> Tensor:
    """All items but a prompt's own list (seen, blocked). rows int [B, R], -1 padded → bool [B, I]"""
    spare = torch.where(rows < 0, items, rows).long()  # padding falls into one column more, which is cut off
    allowed = torch.ones(len(rows), items + 1, dtype=torch.bool, device=rows.device)
    return allowed.scatter_(1, spare, False)[:, :items]


def intersection(*filters: Tensor | None) -> Tensor | None:
    """What all filters allow. Each bool [I] or [B, I], or None → bool [B, I], or None where all are None."""
    joined: Tensor | None = None
    for allowed in filters:
        if allowed is not None:
            rows = allowed if allowed.ndim == 2 else allowed[None]
            joined = rows if joined is None else joined & rows
    return joined


def prefix_rank(allowed: Tensor) -> Tensor:
    """Number of allowed items before each row. bool [B, I] → int32 [B, I + 1]"""
    rank = torch.zeros(len(allowed), allowed.shape[1] + 1, dtype=torch.int32, device=allowed.device)
    torch.cumsum(allowed, dim=1, dtype=torch.int32, out=rank[:, 1:])
    return rank
