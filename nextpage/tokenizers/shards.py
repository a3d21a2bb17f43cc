"""Rows that lie over the processes of torch.distributed, a run of them on each; a process by itself has them all.

What is reduced is a sum, so that n processes find what one would, but for the order of adding.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Shard:
    """This process's vectors: rows [start, start + len(x_ND)) of the `rows` of all processes."""

    x_ND: Tensor
    start: int
    rows: int

    @staticmethod
    def of(x_ND: Tensor) -> "Shard":
        """Every process calls this with its own vectors; rows are numbered in the processes' order."""
        counts = torch.zeros(processes(), dtype=torch.int64, device=x_ND.device)
        counts[rank()] = len(x_ND)
        counts = total(counts).cpu()
        return Shard(x_ND=x_ND, start=int(counts[: rank()].sum()), rows=int(counts.sum()))

    def own(self, row_B: Tensor) -> tuple[Tensor, Tensor]:
        """Of rows (int64 [B], on the CPU), those here: their places in `row_B` int64 [b], and vectors [b, D]."""
        here = (row_B >= self.start) & (row_B < self.start + len(self.x_ND))
        place = here.nonzero()[:, 0].to(self.x_ND.device)
        return place, self.x_ND.index_select(0, (row_B[here] - self.start).to(self.x_ND.device))

    def gather(self, row_B: Tensor) -> Tensor:
        """The vectors [B, D] of rows wherever they lie, in every process."""
        place, own = self.own(row_B)
        return total(own.new_zeros(len(row_B), own.shape[1]).index_copy_(0, place, own))


def share(count: int) -> slice:
    """The run of `count` rows that is this process's: equal to within one row, in the processes' order."""
    return slice(rank() * count // processes(), (rank() + 1) * count // processes())


def total(values: Tensor) -> Tensor:
    """The sum over all processes, in each; in place where there are several."""
    if processes() > 1:
        dist.all_reduce(values)
    return values


def processes() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0
