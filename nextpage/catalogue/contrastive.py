"""Tuning on pairs of items that share a page: InfoNCE with the other pairs of the batch as negatives.

GenRec tunes its encoder "on collaborative pairs" and leaves the loss open; this is the usual choice (van den Oord et
al. 2018; Radford et al. 2021 for the symmetric form).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nextpage.catalogue.pages import PageItems
from nextpage.progress import track


@dataclass(frozen=True, kw_only=True)
class ContrastiveConfig:
    steps: int = 600
    batch: int = 1024
    learning_rate: float = 3e-3
    temperature: float = 0.1
    seed: int = 0


def tune(model: nn.Module, inputs: Tensor, pages: PageItems, config: ContrastiveConfig) -> None:
    """Train `model`, which maps rows of `inputs` [items, …] to vectors [B, C], so that items of one page are near.

    A projection gets frozen text vectors as its inputs, an encoder the items' token ids. Raises ValueError when no
    page holds two items.
    """
    pages = pages.with_company()
    if not len(pages.page):
        raise ValueError("no page holds two items to tune on: use collaborative = 'none' for such a log")
    draw = np.random.default_rng(config.seed)
    start = np.searchsorted(pages.page, np.arange(pages.page[-1] + 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
    model.train()
    for _ in track(range(config.steps), total=config.steps, unit="step", title="contrastive tuning"):
        anchor, positive = (torch.from_numpy(items) for items in _pairs(pages, start, config.batch, draw))
        loss = info_nce(
            model(inputs[anchor]), model(inputs[positive]), anchor, positive, temperature=config.temperature
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    model.eval()


def info_nce(anchor_BC: Tensor, positive_BC: Tensor, anchor: Tensor, positive: Tensor, *, temperature: float) -> Tensor:
    """Mean over both directions of −log softmax of the pair's cosine among the batch's; a scalar.

    `anchor` and `positive` (int64 [B]) are the items: a negative that is the wanted item itself is no negative.
    """
    similarity_BB = functional.normalize(anchor_BC, dim=1) @ functional.normalize(positive_BC, dim=1).T / temperature
    itself = torch.eye(len(anchor), dtype=torch.bool, device=similarity_BB.device)
    same_positive = (positive[:, None] == positive[None, :]).to(similarity_BB.device) & ~itself
    same_anchor = (anchor[:, None] == anchor[None, :]).to(similarity_BB.device) & ~itself
    wanted = torch.arange(len(anchor), device=similarity_BB.device)
    forth = functional.cross_entropy(similarity_BB.masked_fill(same_positive, -torch.inf), wanted)
    back = functional.cross_entropy(similarity_BB.masked_fill(same_anchor, -torch.inf).T, wanted)
    return (forth + back) / 2


def _pairs(pages: PageItems, start: np.ndarray, size: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """`size` pairs of two items of one page: a random event, and another of its page. `start`: each page's first."""
    event = draw.integers(len(pages.page), size=size)
    first = start[pages.page[event]]
    length = start[pages.page[event] + 1] - first
    step = 1 + draw.integers(length - 1)
    other = first + (event - first + step) % length
    return pages.item[event], pages.item[other]
