import numpy as np
import pytest

from nextpage.catalogue.collaborative import CollaborativeConfig, foretold_vectors, item_vectors
from nextpage.catalogue.contrastive import ContrastiveConfig
from nextpage.catalogue.pages import PageItems
from nextpage.catalogue.text import unit


def planted() -> tuple[np.ndarray, PageItems]:
    """Sixty items whose text tells one of four groups; pages stay within a group; the last eight were never met."""
    draw = np.random.default_rng(0)
    group = np.arange(60) % 4
    text = unit((np.eye(4, 16)[group] + 0.2 * draw.normal(size=(60, 16))).astype(np.float32))
    item = np.concatenate([draw.choice(13, 4, replace=False) * 4 + page % 4 for page in range(200)])
    return text, PageItems(page=np.repeat(np.arange(200), 4), item=item, items=60)


def config(kind: str, **settings: float) -> CollaborativeConfig:
    tuning = ContrastiveConfig(steps=60, batch=64, learning_rate=1e-2)
    return CollaborativeConfig(kind=kind, dimensions=8, contrastive=tuning, **settings)


@pytest.mark.parametrize("kind", ["svd", "contrastive"])
def test_parts_have_their_lengths_and_groups_come_together(kind):
    text, pages = planted()
    vectors = item_vectors(text, pages, config(kind, weight=0.5)).vectors
    assert vectors.shape == (60, 24)
    np.testing.assert_array_equal(vectors[:, :16], text)
    np.testing.assert_allclose(np.linalg.norm(vectors[:, 16:], axis=1), 0.5, rtol=1e-4)
    part = vectors[:, 16:] / 0.5
    same = np.arange(60)[:, None] % 4 == np.arange(60) % 4
    assert (part @ part.T)[same].mean() > (part @ part.T)[~same].mean() + 0.4


@pytest.mark.parametrize("kind", ["svd", "contrastive"])
def test_items_never_met_get_the_part_that_their_text_foretells(kind):
    text, pages = planted()
    learnt = item_vectors(text, pages, config(kind))
    np.testing.assert_allclose(
        foretold_vectors(text[52:], learnt.projection, learnt.weight), learnt.vectors[52:], atol=1e-5
    )
    part = learnt.vectors[:, 16:]
    nearest_met = (part[52:] @ part[:52].T).argmax(axis=1)
    np.testing.assert_array_equal(nearest_met % 4, np.arange(52, 60) % 4)


def test_none_is_the_text_alone():
    text, pages = planted()
    learnt = item_vectors(text, pages, config("none"))
    np.testing.assert_array_equal(learnt.vectors, text)
    np.testing.assert_array_equal(foretold_vectors(text, learnt.projection, 1.0), text)


@pytest.mark.parametrize("kind", ["svd", "contrastive"])
def test_the_same_seed_gives_the_same_vectors(kind):
    text, pages = planted()
    first, second = (item_vectors(text, pages, config(kind)).vectors for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_an_unknown_kind_and_another_catalogue_are_refused():
    text, pages = planted()
    with pytest.raises(ValueError, match="'word' is unknown: use one of svd, contrastive, none"):
        CollaborativeConfig(kind="word")
    with pytest.raises(ValueError, match="59 text vectors and 60 items"):
        item_vectors(text[1:], pages, config("svd"))
