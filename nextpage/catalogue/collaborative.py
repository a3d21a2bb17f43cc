"""The collaborative part of item vectors, and how to foretell it from text for items that nobody has met yet."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from nextpage.catalogue.contrastive import ContrastiveConfig, tune
from nextpage.catalogue.pages import PageItems
from nextpage.catalogue.ppmi import ppmi, singular_vectors
from nextpage.catalogue.text import unit


@dataclass(frozen=True, kw_only=True)
class CollaborativeConfig:
    """`kind`: `svd` of basket PPMI, `contrastive` tuning of a projection of the text vectors, or `none`.

    `weight` is the length of the collaborative part, where that of the text part is one.
    """

    kind: str = "svd"
    dimensions: int = 64
    weight: float = 1.0
    ridge: float = 1.0
    seed: int = 0
    contrastive: ContrastiveConfig = field(default_factory=ContrastiveConfig)

    def __post_init__(self) -> None:
        if self.kind not in PARTS:
            raise ValueError(f"collaborative part {self.kind!r} is unknown: use one of {', '.join(PARTS)}")


@dataclass(frozen=True, kw_only=True)
class ItemVectors:
    """Vectors [I, D + C] = [text; weight × collaborative], each part of unit norm, and what new items need.

    `projection` float32 [D + 1, C] foretells the collaborative part from [text; 1]. An item without company in the
    log gets the part foretold: it tells what such items are bought with better than zeros do
    (`benchmarks/tokenizer.py journey`).
    """

    vectors: np.ndarray
    projection: np.ndarray
    weight: float


def item_vectors(text: np.ndarray, pages: PageItems, config: CollaborativeConfig) -> ItemVectors:
    """Join the text part, unit vectors float32 [I, D], with the collaborative part learnt from `pages`."""
    if len(text) != pages.items:
        raise ValueError(f"there are {len(text)} text vectors and {pages.items} items: read both from one catalogue")
    part, projection = PARTS[config.kind](text, pages, config)
    joined = np.concatenate([text, config.weight * part], axis=1).astype(np.float32)
    return ItemVectors(vectors=joined, projection=projection.astype(np.float32), weight=config.weight)


def foretold_vectors(text: np.ndarray, projection: np.ndarray, weight: float) -> np.ndarray:
    """Vectors [N, D + C] of items known by their text only, unit vectors [N, D]."""
    return np.concatenate([text, weight * _foretell(text, projection)], axis=1).astype(np.float32)


def _svd_part(text: np.ndarray, pages: PageItems, config: CollaborativeConfig) -> tuple[np.ndarray, np.ndarray]:
    part = unit(singular_vectors(ppmi(pages), dimensions=config.dimensions, seed=config.seed))
    met = part.any(axis=1)
    features = _with_one(text[met]).astype(np.float64)
    square = features.T @ features + config.ridge * np.eye(features.shape[1])
    projection = np.linalg.solve(square, features.T @ part[met])
    part[~met] = _foretell(text[~met], projection)
    return part, projection


def _contrastive_part(text: np.ndarray, pages: PageItems, config: CollaborativeConfig) -> tuple[np.ndarray, np.ndarray]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        projection = nn.Linear(text.shape[1], config.dimensions)
    tune(projection, torch.from_numpy(text), pages, config.contrastive)
    matrix = torch.cat([projection.weight.T, projection.bias[None]]).detach().numpy()
    return _foretell(text, matrix), matrix


def _no_part(text: np.ndarray, pages: PageItems, config: CollaborativeConfig) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((len(text), 0)), np.zeros((text.shape[1] + 1, 0))


PARTS: dict[str, Callable[[np.ndarray, PageItems, CollaborativeConfig], tuple[np.ndarray, np.ndarray]]] = {
    "svd": _svd_part,
    "contrastive": _contrastive_part,
    "none": _no_part,
}


def _foretell(text: np.ndarray, projection: np.ndarray) -> np.ndarray:
    return unit(_with_one(text) @ projection)


def _with_one(text: np.ndarray) -> np.ndarray:
    return np.concatenate([text, np.ones((len(text), 1), dtype=text.dtype)], axis=1)
