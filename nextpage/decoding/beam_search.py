"""Beam search over semantic IDs: the best items of a catalogue, or free codes.

The log-probability of an item is the sum over levels of the log-softmax over *all* codes of the level; the trie and
the filter only take candidates away. So scores do not depend on the filter, and agree with `score_items`. The search
is exact where the beam covers the live nodes of every level. Equal scores are ordered by item row.

Letters in names and comments: B prompts, W beams, C candidates (children) of a beam, S codes of the level, L levels,
I items, R items to score.
"""

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from nextpage.decoding.engine import Engine, Frontier, Prompts
from nextpage.decoding.filters import Filters
from nextpage.decoding.trie import Trie

State = TypeVar("State")
DEAD = -torch.inf
"""Score of a candidate that is none."""
CANDIDATES = 1 << 20
"""How many children are weighed at a time, those of all prompts together: some 50 bytes each."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Items for each prompt, best first; where a prompt has fewer than k, rows end in -1 and log_prob in -inf."""

    rows: Tensor  # int32 [B, k]
    log_prob: Tensor  # float32 [B, k]


@dataclass(frozen=True, kw_only=True)
class Generated:
    """Codes decoded without a trie, best first; they may name no item (`Trie.rows` tells)."""

    codes: Tensor  # int64 [B, W, L]
    log_prob: Tensor  # float32 [B, W]


def search(
    engine: Engine[State],
    prompts: Prompts | Frontier[State],
    trie: Trie,
    *,
    beam_width: int,
    k: int,
    allowed: Tensor | Filters | None = None,
) -> Found:
    """At most k distinct items that the trie and `allowed` (bool [B, I], [1, I] or [I], or filters) hold, best first.

    `prompts` may be what `engine.prefill` has already made of them. Raises ValueError where the engine, the trie and
    the filter do not fit together.
    """
    frontier = _start(engine, prompts)
    batch, device = len(frontier.logits), frontier.logits.device
    check(engine, trie, batch, beam_width, k, allowed)
    filters = _filters(allowed, batch)
    node_BW = torch.zeros(batch, 1, dtype=torch.int32, device=device)
    score_BW = torch.zeros(batch, 1, device=device)
    for level, edge_codes in enumerate(trie.edge_codes):
        last = level == trie.levels - 1
        score_BW, node_BW, parents_BW = extend(
            trie, level, node_BW, score_BW, frontier.logits, filters, k if last else beam_width
        )
        if not last:
            frontier = engine.step(frontier.state, parents_BW, edge_codes[node_BW], level + 1)
    missing = k - node_BW.shape[1]
    rows = torch.where(score_BW == DEAD, -1, node_BW)
    return Found(
        rows=torch.nn.functional.pad(rows, (0, missing), value=-1),
        log_prob=torch.nn.functional.pad(score_BW, (0, missing), value=DEAD),
    )


def generate(engine: Engine[State], prompts: Prompts | Frontier[State], *, beam_width: int) -> Generated:
    """The best codes without a trie: what the model would say if nobody held it to the catalogue."""
    frontier = _start(engine, prompts)
    batch, device = len(frontier.logits), frontier.logits.device
    codes_BWL = torch.zeros(batch, 1, 0, dtype=torch.int64, device=device)
    score_BW = torch.zeros(batch, 1, device=device)
    for level, size in enumerate(engine.sizes):
        score_BM = (score_BW[..., None] + frontier.logits.float().log_softmax(-1)).flatten(1)
        place_BM = torch.arange(score_BM.shape[1], dtype=torch.int32, device=device).expand_as(score_BM)
        place_BW = best(score_BM, place_BM, beam_width)
        score_BW = score_BM.gather(1, place_BW)
        parent_BW, code_BW = place_BW // size, place_BW % size
        prefix = codes_BWL.gather(1, parent_BW[..., None].expand(-1, -1, level))
        codes_BWL = torch.cat([prefix, code_BW[..., None]], dim=-1)
        if level < len(engine.sizes) - 1:
            frontier = engine.step(frontier.state, parent_BW, code_BW, level + 1)
    return Generated(codes=codes_BWL, log_prob=score_BW)


def score_items(engine: Engine[State], prompts: Prompts | Frontier[State], trie: Trie, rows: Tensor) -> Tensor:
    """Exact log-probabilities of given items. rows int [B, R], -1 padded → float32 [B, R], -inf where padded.

    Items of a prompt that begin with the same codes share a beam, so each distinct prefix is run once.
    """
    frontier = _start(engine, prompts)
    # In order of rows, the items below one node stand side by side.
    sorted_BR, order_BR = rows.clamp(min=0).long().sort(dim=1)
    nodes = trie.path(sorted_BR)
    beam_BR = torch.zeros_like(sorted_BR)
    score_BR = torch.zeros(rows.shape, device=rows.device)
    for level, edge_codes in enumerate(trie.edge_codes):
        code_BR = edge_codes[nodes[level + 1]].long()
        logits_BWS = frontier.logits.float()
        place_BR = beam_BR * logits_BWS.shape[2] + code_BR
        score_BR += logits_BWS.flatten(1).gather(1, place_BR)
        score_BR -= logits_BWS.logsumexp(dim=-1).gather(1, beam_BR)
        if level < trie.levels - 1:
            fresh_BR = nodes[level + 1].diff(dim=1, prepend=nodes[level + 1][:, :1]) != 0
            next_beam_BR = fresh_BR.cumsum(dim=1)
            parents_BW = beam_BR.new_zeros(len(rows), int(next_beam_BR.max()) + 1)
            codes_BW = parents_BW.scatter(1, next_beam_BR, code_BR)
            parents_BW = parents_BW.scatter(1, next_beam_BR, beam_BR)
            frontier = engine.step(frontier.state, parents_BW, codes_BW, level + 1)
            beam_BR = next_beam_BR
    scores = torch.empty_like(score_BR).scatter_(1, order_BR, score_BR)
    return scores.masked_fill(rows < 0, DEAD)


def _start(engine: Engine[State], prompts: Prompts | Frontier[State]) -> Frontier[State]:
    return engine.prefill(prompts) if isinstance(prompts, Prompts) else prompts


def check(
    engine: Engine[State], trie: Trie, batch: int, beam_width: int, k: int, allowed: Tensor | Filters | None
) -> None:
    """Raises ValueError where the engine, the trie and the filter do not fit together, or nothing is asked for."""
    if beam_width < 1 or k < 1:
        raise ValueError(f"beam_width {beam_width} and k {k} must be at least 1")
    if engine.sizes != trie.sizes:
        raise ValueError(
            f"the engine generates codes of sizes {engine.sizes}, the trie holds {trie.sizes}: are they of one release?"
        )
    if isinstance(allowed, Filters):
        shapes = {(len(allowed.ranks), len(rank) - 1) for rank in allowed.ranks if rank is not None}
    else:
        shapes = set() if allowed is None else {(1, *allowed.shape)[-2:]}
    for shape in shapes - {(1, trie.items), (batch, trie.items)}:
        raise ValueError(
            f"the filter has shape {shape}, expected ({batch}, {trie.items}): one row a prompt, "
            "one column an item of the trie"
        )


def _filters(allowed: Tensor | Filters | None, batch: int) -> Filters | None:
    if allowed is None or isinstance(allowed, Filters):
        return allowed
    return Filters.dense(allowed.view(-1, allowed.shape[-1]), batch)


def extend(
    trie: Trie, level: int, node_BW: Tensor, score_BW: Tensor, logits_BWS: Tensor, filters: Filters | None, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The `width` best children of all beams: scores, nodes and the beams they come from, best first.

    Beams are expanded a few at a time and the best kept, so that memory does not grow with beams times fan-out; as the
    order is total, what is found does not depend on how many.
    """
    first_edge = trie.first_edges[level]
    widest = int((first_edge[node_BW + 1] - first_edge[node_BW]).max())
    beams = max(1, CANDIDATES // (len(node_BW) * widest))
    score_BM, edge_BM, from_BM = score_BW[:, :0], node_BW[:, :0], node_BW[:, :0]
    for start in range(0, node_BW.shape[1], beams):
        some = slice(start, start + beams)
        edge_BWC, score_BWC = expand(trie, level, node_BW[:, some], score_BW[:, some], logits_BWS[:, some], filters)
        beam_W1 = torch.arange(start, start + edge_BWC.shape[1], dtype=torch.int32, device=node_BW.device)[:, None]
        score_BM = torch.cat([score_BM, score_BWC.flatten(1)], dim=1)
        edge_BM = torch.cat([edge_BM, edge_BWC.flatten(1)], dim=1)
        from_BM = torch.cat([from_BM, beam_W1.expand(edge_BWC.shape).flatten(1)], dim=1)
        place_BW = best(score_BM, edge_BM, width)
        score_BM, edge_BM, from_BM = (x.gather(1, place_BW) for x in (score_BM, edge_BM, from_BM))
    live = slice(max(1, int((score_BM != DEAD).sum(dim=1).max())))
    return score_BM[:, live], edge_BM[:, live], from_BM[:, live].long()


def expand(
    trie: Trie, level: int, node_BW: Tensor, score_BW: Tensor, logits_BWS: Tensor, filters: Filters | None
) -> tuple[Tensor, Tensor]:
    """Every child of every beam: its edge int32 [B, W, C], and its score [B, W, C], DEAD where it may not be."""
    first_BW, end_BW = trie.first_edges[level][node_BW], trie.first_edges[level][node_BW + 1]
    child_C = torch.arange(int((end_BW - first_BW).max()) + 1, dtype=torch.int32, device=node_BW.device)
    edge_BWC = first_BW[..., None] + child_C  # one too many, where the last child's items end
    if filters is None:
        alive_BWC = edge_BWC[..., :-1] < end_BW[..., None]
    else:  # a child's items end where the next one's begin, and past the last child nothing does
        edge_BWC = torch.minimum(edge_BWC, end_BW[..., None])
        first_row_BM = trie.first_row(level + 1, edge_BWC.flatten(1))
        alive_BWC = filters.before(first_row_BM).view_as(edge_BWC).diff(dim=-1) > 0
    edge_BWC = torch.where(alive_BWC, edge_BWC[..., :-1], 0)
    logits_BWS = logits_BWS.float()
    code_BWC = trie.edge_codes[level][edge_BWC].long()
    base_BW = score_BW - logits_BWS.logsumexp(dim=-1)
    score_BWC = logits_BWS.gather(2, code_BWC) + base_BW[..., None]
    return edge_BWC, score_BWC.masked_fill(~alive_BWC, DEAD)


def best(score_BM: Tensor, node_BM: Tensor, width: int) -> Tensor:
    """Places in M of the best candidates, best first, equal scores by node: int64 [B, width or M].

    Score and node go into one integer, so that the order is total and the same on every device: topk alone may
    return any of several equal scores.
    """
    bits = score_BM.view(torch.int32)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # integers in the order of the floats
    key = (ordered.long() << 32) | (0x7FFFFFFF - node_BM)
    return key.topk(min(width, key.shape[1]), dim=1).indices
