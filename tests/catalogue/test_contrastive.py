import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from nextpage.catalogue.contrastive import ContrastiveConfig, info_nce, tune
from nextpage.catalogue.pages import PageItems


def planted() -> tuple[torch.Tensor, PageItems]:
    """Forty items of random vectors; item 2n is bought with item 2n + 1."""
    vectors = functional.normalize(torch.randn(40, 32, generator=torch.Generator().manual_seed(0)))
    return vectors, PageItems(page=np.repeat(np.arange(20), 2), item=np.arange(40), items=40)


def pair_and_other_similarity(vectors: torch.Tensor) -> tuple[float, float]:
    vectors = functional.normalize(vectors)
    cosine = (vectors @ vectors.T).detach().numpy()
    pair = np.arange(40) ^ 1
    other = ~np.eye(40, dtype=bool)
    other[np.arange(40), pair] = False
    return float(cosine[np.arange(40), pair].mean()), float(cosine[other].mean())


def test_tuning_brings_bought_together_items_near_and_keeps_others_apart():
    vectors, pages = planted()
    torch.manual_seed(0)
    projection = nn.Linear(32, 24)
    before, _ = pair_and_other_similarity(projection(vectors))
    start = projection.weight.detach().clone()
    tune(projection, vectors, pages, ContrastiveConfig(steps=150, batch=32, learning_rate=1e-2))
    after, other = pair_and_other_similarity(projection(vectors))
    assert after > max(before, other) + 0.5
    assert not torch.equal(projection.weight, start)


def test_an_encoder_of_tokens_can_be_tuned_too():
    _, pages = planted()
    torch.manual_seed(0)
    tokens = torch.randint(100, (40, 6))
    encoder = nn.Sequential(nn.EmbeddingBag(100, 16), nn.Linear(16, 16))
    before, _ = pair_and_other_similarity(encoder(tokens))
    tune(encoder, tokens, pages, ContrastiveConfig(steps=150, batch=32, learning_rate=1e-2))
    assert pair_and_other_similarity(encoder(tokens))[0] > before + 0.3


def test_the_loss_is_its_definition_and_the_wanted_item_is_no_negative():
    draw = torch.Generator().manual_seed(0)
    anchor, positive = torch.randn(4, 5, generator=draw), torch.randn(4, 5, generator=draw)
    items, with_items = torch.tensor([0, 1, 0, 3]), torch.tensor([7, 8, 9, 8])
    positive[3] = positive[1]
    anchor[2] = anchor[0]
    cosine = functional.cosine_similarity(anchor[:, None], positive[None], dim=2) / 0.2
    losses = []
    for row in range(4):
        forth = [j for j in range(4) if j == row or with_items[j] != with_items[row]]
        back = [j for j in range(4) if j == row or items[j] != items[row]]
        losses.append(torch.logsumexp(cosine[row, forth], 0) - cosine[row, row])
        losses.append(torch.logsumexp(cosine[back, row], 0) - cosine[row, row])
    found = info_nce(anchor, positive, items, with_items, temperature=0.2)
    torch.testing.assert_close(found, torch.stack(losses).mean())


def test_a_log_of_single_items_is_refused():
    vectors, _ = planted()
    pages = PageItems(page=np.arange(40), item=np.arange(40), items=40)
    with pytest.raises(ValueError, match="no page holds two items"):
        tune(nn.Linear(32, 4), vectors, pages, ContrastiveConfig(steps=1))
