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
from nextpage.decoding.filters import intersection, prefix_rank
from nextpage.decoding.trie import Trie

State = TypeVar("State")
DEAD = -torch.inf
"""Score of a candidate that is none."""


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
    allowed: Tensor | None = None,
) -> Found:
    """At most k distinct items that the trie and `allowed` (bool [B, I], [1, I] or [I]) hold, best first.

    `prompts` may be what `engine.prefill` has already made of them. Raises ValueError where the engine, the trie and
    the filter do not fit together.
    """
    frontier, allowed = _start(engine, prompts), intersection(allowed)
    batch, device = len(frontier.logits), frontier.logits.device
    _check(engine, trie, batch, beam_width, k, allowed)
    rank = None if allowed is None else prefix_rank(allowed)
    node_BW = torch.zeros(batch, 1, dtype=torch.int32, device=device)
    score_BW = torch.zeros(batch, 1, device=device)
    for level, edge_codes in enumerate(trie.edge_codes):
        edge_BWC, score_BWC = expand(trie, level, node_BW, score_BW, frontier.logits, rank)
        last = level == trie.levels - 1
        score_BW, node_BW, place_BW = _best(score_BWC.flatten(1), edge_BWC.flatten(1), k if last else beam_width)
        if not last:
            codes_BW = edge_codes[node_BW]
            frontier = engine.step(frontier.state, place_BW // edge_BWC.shape[2], codes_BW, level + 1)
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
        score_BW, _, place_BW = _best(score_BM, place_BM, beam_width)
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


def _check(engine: Engine[State], trie: Trie, batch: int, beam_width: int, k: int, allowed: Tensor | None) -> None:
    if beam_width < 1 or k < 1:
        raise ValueError(f"beam_width {beam_width} and k {k} must be at least 1")
    if engine.sizes != trie.sizes:
        raise ValueError(
            f"the engine generates codes of sizes {engine.sizes}, the trie holds {trie.sizes}: are they of one release?"
        )
    if allowed is not None and tuple(allowed.shape) not in ((1, trie.items), (batch, trie.items)):
        raise ValueError(
            f"the filter has shape {tuple(allowed.shape)}, expected ({batch}, {trie.items}): one row a prompt, "
            "one column an item of the trie"
        )


def expand(
    trie: Trie, level: int, node_BW: Tensor, score_BW: Tensor, logits_BWS: Tensor, rank: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Every child of every beam: its edge int32 [B, W, C], and its score [B, W, C], DEAD where it may not be."""
    first_BW = trie.first_edges[level][node_BW]
    children_BW = trie.first_edges[level][node_BW + 1] - first_BW
    child_C = torch.arange(int(children_BW.max()), dtype=torch.int32, device=node_BW.device)
    alive_BWC = child_C < children_BW[..., None]
    edge_BWC = torch.where(alive_BWC, first_BW[..., None] + child_C, 0)
    if rank is not None:
        lo_BM = trie.first_row(level + 1, edge_BWC).flatten(1).long()
        hi_BM = trie.first_row(level + 1, edge_BWC + 1).flatten(1).long()
        rank = rank.expand(len(node_BW), -1)
        alive_BWC = alive_BWC & (rank.gather(1, hi_BM) > rank.gather(1, lo_BM)).view_as(alive_BWC)
    logits_BWS = logits_BWS.float()
    code_BWC = trie.edge_codes[level][edge_BWC].long()
    base_BW = score_BW - logits_BWS.logsumexp(dim=-1)
    score_BWC = logits_BWS.gather(2, code_BWC) + base_BW[..., None]
    return edge_BWC, score_BWC.masked_fill(~alive_BWC, DEAD)


def _best(score_BM: Tensor, node_BM: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best candidates' scores, nodes and places in M, best first, equal scores by node.

    Score and node go into one integer, so that the order is total and the same on every device: topk alone may
    return any of several equal scores. Columns in which no prompt has a candidate left are cut off.
    """
    bits = score_BM.view(torch.int32)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # integers in the order of the floats
    key = (ordered.long() << 32) | (0x7FFFFFFF - node_BM)
    place = key.topk(min(width, key.shape[1]), dim=1).indices
    score = score_BM.gather(1, place)
    live = max(1, int((score != DEAD).sum(dim=1).max()))
    place, score = place[:, :live], score[:, :live]
    return score, node_BM.gather(1, place), place
