"""A small policy, its catalogue and pages to ask it for, where nothing has to be learnt first."""

from typing import cast

import numpy as np
import torch

from nextpage.alignment.catalogue import Catalogue
from nextpage.alignment.generation import Generation
from nextpage.alignment.pages import TrainingPages
from nextpage.alignment.reward_model import RewardModel
from nextpage.alignment.rewards import Judge
from nextpage.decoding.trie import Trie
from nextpage.layouts.pages import PagesConfig
from nextpage.models.decoder import CausalDecoder
from nextpage.tokenizers.semantic_ids import SemanticIds
from tests.histories import SIZES, VOCABULARY, random_sequences, small_decoder

ITEMS = 90


def semantic_ids() -> SemanticIds:
    """Distinct codes for the items of `random_sequences`."""
    draw = np.random.default_rng(0)
    numbers = np.sort(draw.choice(np.prod(SIZES), size=ITEMS, replace=False))
    codes = np.stack(np.unravel_index(numbers, SIZES), axis=1).astype(np.int32)
    return SemanticIds(item_ids=np.array([f"i{row}" for row in range(ITEMS)], dtype=object), codes=codes, sizes=SIZES)


def generation(model: CausalDecoder | None = None, prompt_items: int = 64) -> Generation:
    table = semantic_ids()
    return Generation(
        model=model or policy(),
        trie=Trie.build(table),
        item_tokens=VOCABULARY.tokens(table.codes),
        layout=PagesConfig(),
        prompt_items=prompt_items,
    )


def policy(seed: int = 0) -> CausalDecoder:
    """Weights large enough for codes to differ in probability."""
    model = small_decoder()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=draw)
    return model


def pages(users: int = 12, seed: int = 0) -> TrainingPages:
    return TrainingPages.of(random_sequences(users, items=ITEMS), seed)


def judge(reward_model: RewardModel | None = None) -> Judge:
    """Random vectors, four categories, prices that rise with the row, and items that were all seen long ago."""
    draw = np.random.default_rng(1)
    vectors = draw.normal(size=(ITEMS, 8)).astype(np.float32)
    catalogue = Catalogue(
        vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        category=draw.integers(0, 4, ITEMS),
        price=np.linspace(0, 1, ITEMS, dtype=np.float32),
        first_seen=np.full(ITEMS, 1_600_000_000),
    )
    return Judge(catalogue=catalogue, reward_model=cast(RewardModel, reward_model))
