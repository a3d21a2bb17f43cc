"""k-means for millions of vectors: k-means++ on a sample, mini-batches with a forgetting mean, no empty clusters.

Shapes: N vectors, D dimensions, K centres, B vectors of a batch, b of them in this process.
"""

import math

import torch
from torch import Tensor

from nextpage.tokenizers.shards import Shard, total

CHUNK = 4096
"""Vectors whose distances to all centres are held at once: few enough to stay in a core's cache."""


def nearest(x_ND: Tensor, centres_KD: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest centre of each vector (int64 [N]; the first of equals) and the squared distance to it (float32 [N])."""
    index, distance = [], []
    for chunk_BD in torch.split(x_ND, CHUNK):
        least_B, index_B = squared_distances(chunk_BD, centres_KD).min(dim=1)
        index.append(index_B)
        distance.append(least_B)
    return torch.cat(index), torch.cat(distance)


def squared_distances(x_ND: Tensor, centres_KD: Tensor) -> Tensor:
    """‖x − c‖² [N, K], as ‖x‖² − 2 x·c + ‖c‖² and never below zero."""
    cross_NK = torch.addmm(centres_KD.square().sum(1), x_ND, centres_KD.T, alpha=-2.0)
    return cross_NK.add_(torch.linalg.vector_norm(x_ND, dim=1, keepdim=True).square()).clamp_(min=0.0)


def kmeans(x_ND: Tensor, *, centres: int, steps: int, batch: int, generator: torch.Generator) -> Tensor:
    """Centres [K, D] after `steps` mini-batches of `batch` vectors; K N·D multiplications for each N vectors seen.

    A centre is the mean of the vectors that fell to it, where an earlier batch's count fades by 1 − B/N a step: what
    is remembered is worth one pass over the data. If all fits in one batch nothing is remembered, and a step is an
    exact iteration of Lloyd. (Sculley 2010, "Web-scale k-means clustering", remembers everything and so never
    leaves its start; the fading is that of streaming k-means.) A centre that has faded to nothing moves to a vector
    drawn in proportion to its squared distance from the other centres.

    `generator` lives on the CPU, so that the draws are the same whichever device holds `x_ND`. Under torch.distributed
    `x_ND` are this process's rows, and every process has the same generator: each adds up what fell to the centres
    among its own rows of a batch, and the sums are reduced. So all processes have the same centres, and those of one
    process that holds all rows, but for the order of adding. A step sends K · (D + 1) numbers.
    """
    shard = Shard.of(x_ND)
    if shard.rows == 0:
        raise ValueError("k-means got no vectors: is the catalogue empty?")
    centres_KD = plus_plus(shard.gather(_draw(shard.rows, 64 * centres, generator)), centres, generator)
    memory = max(0.0, 1.0 - batch / shard.rows)
    weight_K = torch.zeros(centres, device=x_ND.device)
    for _ in range(steps):
        row_B = _draw(shard.rows, batch, generator)
        place_b, x_bD = shard.own(row_B)
        index_b, distance_b = nearest(x_bD, centres_KD)
        count_K = total(torch.bincount(index_b, minlength=centres).to(x_bD.dtype))
        sum_KD = total(torch.zeros_like(centres_KD).index_add_(0, index_b, x_bD))
        weight_K = weight_K * memory + count_K
        step_K1 = (1.0 / weight_K.clamp(min=1e-6))[:, None]
        centres_KD = centres_KD + step_K1 * (sum_KD - count_K[:, None] * centres_KD)
        empty_E = (weight_K < 0.5).nonzero()[:, 0]
        if len(empty_E):
            distance_B = total(distance_b.new_zeros(len(row_B)).index_copy_(0, place_b, distance_b))
            moved_BD = shard.gather(row_B[_by_distance(distance_B, len(empty_E), generator).cpu()])
            centres_KD[empty_E[: len(moved_BD)]] = moved_BD
    return centres_KD


def plus_plus(x_ND: Tensor, centres: int, generator: torch.Generator) -> Tensor:
    """Starting centres [K, D] by greedy k-means++ (Arthur and Vassilvitskii 2007; 2 + ln K candidates a step).

    With fewer distinct vectors than centres, the rest are copies, and stay unused.
    """
    candidates = 2 + int(math.log(centres))
    first = int(torch.randint(len(x_ND), (1,), generator=generator))
    chosen = [first]
    potential_N = squared_distances(x_ND, x_ND[first : first + 1])[:, 0]
    for _ in range(centres - 1):
        drawn_C = _by_distance(potential_N, candidates, generator)
        if not len(drawn_C):
            chosen.append(first)
            continue
        reached_NC = torch.minimum(squared_distances(x_ND, x_ND[drawn_C]), potential_N[:, None])
        best = int(reached_NC.sum(0).argmin())
        chosen.append(int(drawn_C[best]))
        potential_N = reached_NC[:, best]
    return x_ND[chosen]


def _draw(rows: int, size: int, generator: torch.Generator) -> Tensor:
    """`size` of `rows` rows without replacement, or all of them, in order, if there are no more: int64, on the CPU."""
    return torch.arange(rows) if rows <= size else torch.randperm(rows, generator=generator)[:size]


def _by_distance(distance_N: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Up to `size` distinct rows, drawn in proportion to `distance_N`; those at distance zero never."""
    # Rounding leaves a vector that equals a centre a hair away from it; a hair is no distance.
    share_N = distance_N.double().cpu()
    share_N = torch.where(share_N > 1e-6 * share_N.max(), share_N, 0.0)
    size = min(size, int(share_N.count_nonzero()))
    if size == 0:
        return torch.empty(0, dtype=torch.int64, device=distance_N.device)
    return _sample(share_N, size, generator).to(distance_N.device)


def _sample(share_N: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Weighted sampling without replacement by exponential clocks (Efraimidis and Spirakis 2006), any N."""
    clock_N = torch.empty_like(share_N).exponential_(generator=generator) / share_N
    return clock_N.topk(size, largest=False).indices
