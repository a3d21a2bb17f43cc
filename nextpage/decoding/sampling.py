"""Semantic IDs drawn from the model, item by item and independently: what learning from one's own answers needs.

Letters in names and comments: B prompts, G draws a prompt, C children of a node, S codes of the level, L levels.
"""

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from nextpage.decoding.beam_search import expand
from nextpage.decoding.engine import Engine, Frontier, Prompts
from nextpage.decoding.trie import Trie

State = TypeVar("State")


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Drawn with replacement. `log_prob` is the model's own, over all codes, also where a trie took some away."""

    codes: Tensor  # int64 [B, G, L]
    log_prob: Tensor  # float32 [B, G]


def sample(
    engine: Engine[State],
    prompts: Prompts | Frontier[State],
    *,
    draws: int,
    generator: torch.Generator,
    trie: Trie | None = None,
) -> Sampled:
    """`draws` code tuples a prompt. Without a trie they follow the model exactly and may name no item; with one, each
    code is drawn from the model's distribution over the codes that still lead to an item."""
    frontier = engine.prefill(prompts) if isinstance(prompts, Prompts) else prompts
    batch = len(frontier.logits)
    frontier = Frontier(logits=frontier.logits.expand(-1, draws, -1), state=frontier.state)
    parents = torch.zeros(batch, draws, dtype=torch.int64, device=frontier.logits.device)  # of the one beam each
    node = parents.int()
    score, codes = torch.zeros_like(parents, dtype=torch.float32), []
    for level in range(len(engine.sizes)):
        if trie is None:
            score_BGS = frontier.logits.float().log_softmax(-1)
            code = chosen = _draw(score_BGS, generator)
        else:
            edge_BGC, score_BGS = expand(trie, level, node, torch.zeros_like(score), frontier.logits, None)
            chosen = _draw(score_BGS.masked_fill(_repeated(trie, level, edge_BGC), -torch.inf), generator)
            node = edge_BGC.gather(2, chosen[..., None])[..., 0]
            code = trie.edge_codes[level][node].long()
        score = score + score_BGS.gather(2, chosen[..., None])[..., 0]
        codes.append(code)
        if level < len(engine.sizes) - 1:
            frontier = engine.step(frontier.state, parents, code, level + 1)
            parents = torch.arange(draws, device=code.device).expand(batch, -1)
    return Sampled(codes=torch.stack(codes, dim=-1), log_prob=score)


def _repeated(trie: Trie, level: int, edge_BGC: Tensor) -> Tensor:
    """Which edges bear the code of the edge before, as those of items that share a semantic ID do: bool [B, G, C]. Such
    a code may be drawn once, else it would be as many times too likely."""
    code_BGC = trie.edge_codes[level][edge_BGC]
    return code_BGC.diff(dim=-1, prepend=torch.full_like(code_BGC[..., :1], -1)) == 0


def _draw(score: Tensor, generator: torch.Generator) -> Tensor:
    """A place along the last dimension, by the Gumbel-max trick: [..., S] → int64 [...]"""
    uniform = torch.rand(score.shape, generator=generator, device=score.device).clamp_(min=1e-20)
    return (score - (-uniform.log()).log()).argmax(-1)
