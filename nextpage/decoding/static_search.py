"""The whole search as one tensor program: its shapes follow from its arguments, and the host reads nothing of it.

The same items as `beam_search.search`, which cuts what has died and so waits for the device at every level. Here dead
beams stay, and the children of all beams of a prompt lie side by side in one row of M candidates. M is a fact of the
catalogue: W distinct nodes of a level have at most as many children as its W richest nodes. W times the largest number
of children would be simpler and several times wider (`benchmarks/decoding_gpu.py` prints both); a mask over all codes
would look up W · S codes to find the same few. What is left is reading, in runs: a beam's edges are neighbours, and so
are their codes, their item rows and their places in the filter's prefix sum.

Letters in names and comments: B prompts, W beams, M candidates of a prompt, S codes of the level, I items.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from nextpage.decoding.beam_search import DEAD, Found, best
from nextpage.decoding.engine import Engine, Prompts
from nextpage.decoding.trie import Trie

State = TypeVar("State")
Before = Callable[[Tensor], Tensor]
"""How many allowed items stand before each item row: int32 [B, M] → int32 [B, M]."""
Expand = Callable[[int, Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor, Tensor]]
"""`children` of a trie and a filter: level, nodes, scores, logits, M → beams, edges, scores."""


def most_candidates(trie: Trie, beam_width: int) -> tuple[int, ...]:
    """M of each level. O(nodes) once a catalogue and beam width."""
    widths, beams = [], 1
    for first_edge in trie.first_edges:
        children = first_edge.diff()
        widths.append(int(children.topk(min(beams, len(children))).values.sum()))
        beams = min(beam_width, widths[-1])
    return tuple(widths)


def static_search(
    engine: Engine[State],
    prompts: Prompts,
    trie: Trie,
    *,
    candidates: tuple[int, ...],
    beam_width: int,
    k: int,
    before: Before | None = None,
    expand: Expand | None = None,
) -> Found:
    """`search` with `candidates` as `most_candidates` gives them or more, and `before` of the request's filters, such
    as `Filters.before`. `expand` may do faster what `children` does with trie and filter. The arguments are not
    checked: `beam_search.check` does that."""
    expand = expand or partial(children, trie, before)
    frontier = engine.prefill(prompts)
    batch, device = len(frontier.logits), frontier.logits.device
    node_BW = torch.zeros(batch, 1, dtype=torch.int32, device=device)
    score_BW = torch.zeros(batch, 1, device=device)
    for level, most in enumerate(candidates):
        beam_BM, edge_BM, score_BM = expand(level, node_BW, score_BW, frontier.logits, most)
        last = level == trie.levels - 1
        place_BW = best(score_BM, edge_BM, k if last else beam_width)
        node_BW, score_BW = edge_BM.gather(1, place_BW), score_BM.gather(1, place_BW)
        if not last:
            codes_BW = trie.edge_codes[level][node_BW]
            frontier = engine.step(frontier.state, beam_BM.gather(1, place_BW), codes_BW, level + 1)
    missing = k - node_BW.shape[1]
    rows = torch.where(score_BW == DEAD, -1, node_BW)
    return Found(
        rows=torch.nn.functional.pad(rows, (0, missing), value=-1),
        log_prob=torch.nn.functional.pad(score_BW, (0, missing), value=DEAD),
    )


def children(
    trie: Trie, before: Before | None, level: int, node_BW: Tensor, score_BW: Tensor, logits_BWS: Tensor, most: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The children of all beams of a prompt in one row: their beam int64, edge int32 and score, [B, M] each.

    What fills the row up is beam W - 1 or less, edge 0 and score DEAD, as is what the filter takes away.
    """
    batch, size = len(node_BW), logits_BWS.shape[2]
    first_BW = trie.first_edges[level][node_BW]
    children_BW = torch.where(score_BW == DEAD, 0, trie.first_edges[level][node_BW + 1] - first_BW)
    end_BW = children_BW.cumsum(dim=1, dtype=torch.int32)
    place_BM = torch.arange(most, dtype=torch.int32, device=node_BW.device).repeat(batch, 1)
    beam_BM = torch.searchsorted(end_BW, place_BM, right=True).clamp(max=node_BW.shape[1] - 1)
    alive_BM = place_BM < end_BW[:, -1:]
    edge_BM = place_BM + (first_BW + children_BW - end_BW).gather(1, beam_BM)
    edge_BM = torch.where(alive_BM, edge_BM, 0)
    if before is not None:
        lo_BM, hi_BM = (before(trie.first_row(level + 1, node)) for node in (edge_BM, edge_BM + 1))
        alive_BM = alive_BM & (hi_BM > lo_BM)
    logits_BWS = logits_BWS.float()
    code_BM = trie.edge_codes[level][edge_BM].long()
    base_BW = score_BW - logits_BWS.logsumexp(dim=-1)
    score_BM = logits_BWS.flatten(1).gather(1, beam_BM * size + code_BM) + base_BW.gather(1, beam_BM)
    return beam_BM, edge_BM, score_BM.masked_fill(~alive_BM, DEAD)
