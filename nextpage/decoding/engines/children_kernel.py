"""`static_search.children` as one Triton kernel: a candidate is found, scored and held against the filter in registers.

By torch's operators each of some twenty steps writes all M candidates to memory and reads them again, which at 20
million items and 1,024 beams is 2.4 million. `TRITON_INTERPRET=1` in the environment when this module is first imported
runs it on a CPU.

Letters in names and comments: B prompts, W beams, M candidates of a prompt, S codes of the level, I items, F slots of
filters, R excluded rows; N candidates of a block.
"""

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from nextpage.decoding.beam_search import DEAD
from nextpage.decoding.engines.static_buffers import HeldFilters, HeldTrie

BLOCK = 256  # not tuned on a GPU


@triton.jit  # type: ignore[untyped-decorator]
def _count(values, number, bits, bound, RIGHT: tl.constexpr):  # type: ignore[no-untyped-def]
    """How many of ascending values are below each bound; with RIGHT, or equal to it."""
    low, high = bound * 0, bound * 0 + number
    for _ in range(bits):
        middle = (low + high) // 2
        value = tl.load(values + middle, mask=low < high, other=0)
        under = (value <= bound) if RIGHT else (value < bound)
        low, high = tl.where((low < high) & under, middle + 1, low), tl.where((low < high) & ~under, middle, high)
    return low


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(  # type: ignore[no-untyped-def]
    ends,
    shifts,
    bases,
    logits,
    codes,
    rows,
    ranks,
    slots,
    excluded,
    beam_out,
    edge_out,
    score_out,
    beams,
    most,
    size,
    ranked,
    excluding,
    beam_bits,
    excluded_bits,
    ITEMS: tl.constexpr,
    FILTERED: tl.constexpr,
    N: tl.constexpr,
):
    prompt, place = tl.program_id(1), tl.program_id(0) * N + tl.arange(0, N)
    inside = place < most
    beam = tl.minimum(_count(ends + prompt * beams, beams, beam_bits, place, True), beams - 1)
    alive = inside & (place < tl.load(ends + prompt * beams + beams - 1))
    edge = tl.where(alive, place + tl.load(shifts + prompt * beams + beam), 0)
    code = tl.load(codes + edge).to(tl.int64)
    of_beam = (prompt * beams + beam).to(tl.int64)
    score = tl.load(logits + of_beam * size + code) + tl.load(bases + of_beam)
    if FILTERED:
        low, high = edge, edge + 1
        if not ITEMS:  # below the last level an edge is not yet an item row
            low, high = tl.load(rows + low), tl.load(rows + high)
        rank = ranks + tl.load(slots + prompt) * ranked
        allowed = tl.load(rank + high) - tl.load(rank + low)
        own = excluded + prompt * excluding
        allowed -= _count(own, excluding, excluded_bits, high, False)
        allowed += _count(own, excluding, excluded_bits, low, False)
        alive = alive & (allowed > 0)
    at = prompt * most + place
    tl.store(beam_out + at, beam.to(tl.int64), mask=inside)
    tl.store(edge_out + at, edge, mask=inside)
    tl.store(score_out + at, tl.where(alive, score, float("-inf")), mask=inside)


def fused_children(
    held: HeldTrie,
    filters: HeldFilters | None,
    slots: Tensor,
    excluded: Tensor,
    level: int,
    node_BW: Tensor,
    score_BW: Tensor,
    logits_BWS: Tensor,
    most: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `children`; `filters` None where there are none, else slots and excluded as `HeldFilters.before` has them."""
    trie, (batch, beams, size) = held.trie, logits_BWS.shape
    first_BW = trie.first_edges[level][node_BW]
    children_BW = torch.where(score_BW == DEAD, 0, trie.first_edges[level][node_BW + 1] - first_BW)
    end_BW = children_BW.cumsum(dim=1, dtype=torch.int32)
    logits_BWS = logits_BWS.float().contiguous()
    base_BW = score_BW - logits_BWS.logsumexp(dim=-1)
    beam_BM, edge_BM, score_BM = (
        torch.empty(batch, most, dtype=dtype, device=node_BW.device)
        for dtype in (torch.int64, torch.int32, torch.float32)
    )
    ranks = end_BW if filters is None else filters.ranks
    _kernel[(triton.cdiv(most, BLOCK), batch)](
        end_BW,
        first_BW + children_BW - end_BW,
        base_BW,
        logits_BWS,
        trie.edge_codes[level],
        held.rows[level],
        ranks,
        slots,
        excluded,
        beam_BM,
        edge_BM,
        score_BM,
        beams,
        most,
        size,
        ranks.shape[1],
        excluded.shape[1],
        beams.bit_length(),
        excluded.shape[1].bit_length(),
        ITEMS=level == trie.levels - 1,
        FILTERED=filters is not None,
        N=BLOCK,
    )
    return beam_BM, edge_BM, score_BM
