"""A fresh decoder already leans to what the user has had."""

import numpy as np
import torch

from nextpage.decoding.beam_search import score_items
from nextpage.decoding.engines.eager import EagerEngine
from nextpage.decoding.prompts import prompts_of
from nextpage.decoding.trie import Trie
from nextpage.layouts.pages import PagesConfig
from nextpage.models.initialisation import mimetic
from nextpage.tokenizers.semantic_ids import SemanticIds
from nextpage.tokenizers.vocabulary import Vocabulary
from tests.histories import random_sequences, small_decoder


def _lean(started_mimetic: bool) -> float:
    """How much more probable, in nats, an item of the history is than one that is not, before any training."""
    draw, items = np.random.default_rng(0), 90
    codes = np.stack(np.unravel_index(draw.choice(12**3, items, replace=False), (12, 12, 12)), axis=1)
    ids = SemanticIds.sorted(np.array([f"i{row}" for row in range(items)], dtype=object), codes, (12, 12, 12))
    decoder = small_decoder(width=128, head_width=32)
    if started_mimetic:
        mimetic(decoder, seed=0)
    sequences = random_sequences(12, pages=2, items=items)
    prompts = prompts_of(sequences, Vocabulary(ids.sizes).tokens(ids.codes), PagesConfig(), 50)
    every = torch.arange(items).expand(12, -1)
    score = score_items(EagerEngine(decoder), prompts, Trie.build(ids), every)
    own = torch.zeros(12, items, dtype=torch.bool)
    for row in range(12):
        events = slice(sequences.offset[row], sequences.offset[row + 1])
        own[row, sequences.item[events][sequences.behaviour[events] > 0]] = True
    return float(score[own].mean() - score[~own].mean())


def test_before_training_items_of_the_history_are_more_probable_than_others() -> None:
    assert _lean(started_mimetic=True) > 0.5
    assert abs(_lean(started_mimetic=False)) < 0.1


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second, other = small_decoder(), small_decoder(), small_decoder()
    for decoder, seed in ((first, 1), (second, 1), (other, 2)):
        mimetic(decoder, seed)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name])
    assert not torch.equal(first.embed_tokens.weight, other.embed_tokens.weight)
