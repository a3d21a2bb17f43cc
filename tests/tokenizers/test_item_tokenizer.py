import numpy as np
import pytest

from nextpage.catalogue.collaborative import CollaborativeConfig
from nextpage.catalogue.pages import PageItems
from nextpage.tokenizers.item_tokenizer import ItemTokenizer, TokenizerConfig, tokenize_catalogue
from nextpage.tokenizers.residual_kmeans import ResidualKMeansConfig
from nextpage.tokenizers.semantic_ids import SemanticIds

KINDS = ("whole milk", "rye bread", "green tea", "bar soap", "penne pasta", "blue cheese")
TEXTS = [f"{KINDS[row % 6]} of maker {row // 6}" for row in range(120)]
ITEM_IDS = [f"i{row:03d}" for row in range(120)]


@pytest.fixture(scope="module")
def learnt() -> tuple[ItemTokenizer, SemanticIds]:
    """Pages hold three items of one kind; the last ten items are in no page."""
    draw = np.random.default_rng(0)
    page = np.repeat(np.arange(400), 3)
    item = np.stack([draw.choice(18, 3, replace=False) * 6 + number % 6 for number in range(400)]).ravel()
    config = TokenizerConfig(
        collaborative=CollaborativeConfig(dimensions=8), quantiser=ResidualKMeansConfig(codes=16, steps=10)
    )
    tokenized = tokenize_catalogue(TEXTS, PageItems(page=page, item=item, items=120), config)
    ids = np.asarray(ITEM_IDS, dtype=object)
    return tokenized.tokenizer, SemanticIds.sorted(ids, tokenized.assignment.codes, (16, 16, 16))


def code_of(ids: SemanticIds, item: str) -> list[int]:
    return ids.codes[ids.item_ids.tolist().index(item)].tolist()


def test_every_item_has_codes_of_its_own(learnt):
    _, ids = learnt
    assert sorted(ids.item_ids) == ITEM_IDS
    assert len(np.unique(ids.codes, axis=0)) == 120


def test_new_items_change_no_code_of_the_old(learnt):
    tokenizer, known = learnt
    texts = [f"{kind} of maker {maker}" for kind in KINDS for maker in range(40)]
    new = [f"n{number}" for number in range(len(texts))]
    grown = tokenizer.assign_new(known, new, texts)
    assert all(code_of(grown, item) == code_of(known, item) for item in ITEM_IDS)
    assert len(np.unique(grown.codes, axis=0)) == len(grown.item_ids) == 120 + len(new)


def test_a_new_item_of_known_text_lands_beside_the_items_of_its_kind(learnt):
    tokenizer, known = learnt
    grown = tokenizer.assign_new(known, ["fresh"], ["green tea of maker 99"])
    tea = {code_of(known, item)[0] for item, text in zip(ITEM_IDS, TEXTS, strict=True) if text.startswith("green tea")}
    assert code_of(grown, "fresh")[0] in tea


def test_a_saved_tokenizer_gives_new_items_the_same_codes(learnt, tmp_path):
    tokenizer, known = learnt
    tokenizer.save(tmp_path)
    texts = ["oat milk", "soap with lavender", ""]
    first = tokenizer.assign_new(known, ["a", "b", "c"], texts)
    second = ItemTokenizer.load(tmp_path).assign_new(known, ["a", "b", "c"], texts)
    np.testing.assert_array_equal(first.codes, second.codes)
    assert first.item_ids.tolist() == second.item_ids.tolist()


@pytest.mark.parametrize("items", [["i003"], ["a", "a"]])
def test_items_that_have_codes_already_are_named(learnt, items):
    tokenizer, known = learnt
    with pytest.raises(ValueError, match=items[0]):
        tokenizer.assign_new(known, items, ["text"] * len(items))
