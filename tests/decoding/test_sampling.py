"""Draws against the distribution that enumeration gives, over a model that is a table."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nextpage.decoding.beam_search import score_items
from nextpage.decoding.engines.eager import EagerEngine
from nextpage.decoding.sampling import Sampled, sample
from nextpage.decoding.trie import Trie
from nextpage.tokenizers.semantic_ids import SemanticIds
from tests.decoding.small import TableEngine, catalogues, decoder, random_prompts, semantic_ids

SIZES = (3, 2, 4)
EVERY = semantic_ids([(a, b, c) for a in range(3) for b in range(2) for c in range(4)], SIZES)
LOPSIDED = semantic_ids([(0, 0, 0), (0, 0, 3), (0, 1, 1), (2, 1, 0), (2, 1, 1), (2, 1, 2), (2, 1, 3)], SIZES)
SHARED = semantic_ids([(0, 0, 0), (0, 0, 1), (0, 0, 1), (0, 0, 1), (1, 1, 2), (1, 1, 2)], SIZES)
DRAWS = 6000
CERTAIN = 1e-6

seeds = st.integers(0, 2**32 - 1)


def drawn(engine: TableEngine, *numbers: int, seed: int = 0, draws: int = DRAWS, trie: Trie | None = None) -> Sampled:
    generator = torch.Generator().manual_seed(seed)
    return sample(engine, engine.prompts(*numbers), draws=draws, generator=generator, trie=trie)


def step_wise(engine: TableEngine, number: int, table: SemanticIds, heat: float = 1.0) -> dict[tuple[int, ...], float]:
    """The probability of each code tuple of the table where each code is chosen among those that lead to an item; at a
    `heat` other than 1 it is that of a flatter or steeper model."""
    codes = sorted({tuple(row) for row in table.codes.tolist()})
    probability = dict.fromkeys(codes, 1.0)
    for own in codes:
        for level in range(len(table.sizes)):
            prefix = own[:level]
            place = int(np.ravel_multi_index(prefix, table.sizes[:level])) if level else 0
            weight = (engine.tables[level][number, place].double() / heat).exp().numpy()
            open_codes = {other[level] for other in codes if other[:level] == prefix}
            probability[own] *= weight[own[level]] / sum(weight[code] for code in open_codes)
    return probability


def chance(codes: torch.Tensor, expected: dict[tuple[int, ...], float]) -> float:
    """How likely draws [G, L] from `expected` are to lie as far from it as these: Pearson's χ², rare codes as one."""
    names, probability = list(expected), np.array(list(expected.values()))
    assert probability.sum() == pytest.approx(1)
    place = {name: number for number, name in enumerate(names)}
    counts = np.bincount([place[tuple(row)] for row in codes.tolist()], minlength=len(names))
    rare = probability * len(codes) < 5
    counts = np.append(counts[~rare], counts[rare].sum())
    share = np.append(probability[~rare], probability[rare].sum()) * len(codes)
    counts, share = counts[share > 0], share[share > 0]
    return float(stats.chi2.sf(((counts - share) ** 2 / share).sum(), len(share) - 1))


@pytest.mark.parametrize("seed", range(4))
def test_without_a_trie_codes_come_as_often_as_the_model_finds_them_likely(seed: int) -> None:
    engine = TableEngine.random(SIZES, 3, seed)
    codes = drawn(engine, 0, 1, 2, seed=seed).codes
    for number in range(3):
        exact = dict(zip(map(tuple, EVERY.codes.tolist()), np.exp(engine.log_prob(number, EVERY.codes)), strict=True))
        assert chance(codes[number], exact) > CERTAIN
        assert chance(codes[number], step_wise(engine, number, EVERY, heat=1.3)) < CERTAIN  # so the test can fail


@pytest.mark.parametrize("table", [LOPSIDED, SHARED], ids=["lopsided", "shared"])
@pytest.mark.parametrize("seed", range(4))
def test_along_a_trie_each_code_comes_as_often_as_it_is_likely_among_those_that_lead_to_an_item(
    table: SemanticIds, seed: int
) -> None:
    engine = TableEngine.random(SIZES, 3, seed)
    codes = drawn(engine, 0, 1, 2, seed=seed, trie=Trie.build(table)).codes
    for number in range(3):
        assert chance(codes[number], step_wise(engine, number, table)) > CERTAIN


@settings(deadline=None)
@given(catalogues(), seeds)
def test_along_a_trie_every_draw_names_an_item_and_has_the_models_own_log_probability(
    table: SemanticIds, seed: int
) -> None:
    engine, trie = TableEngine.random(table.sizes, 2, seed), Trie.build(table)
    found = drawn(engine, 0, 1, seed=seed, draws=20, trie=trie)
    rows = trie.rows(found.codes)
    assert found.codes.shape == (2, 20, len(table.sizes))
    assert (rows >= 0).all()
    assert torch.allclose(found.log_prob, score_items(engine, engine.prompts(0, 1), trie, rows), atol=1e-4)


@settings(deadline=None)
@given(catalogues(), seeds)
def test_without_a_trie_the_log_probability_is_the_sum_over_levels_of_the_log_softmax(
    table: SemanticIds, seed: int
) -> None:
    engine = TableEngine.random(table.sizes, 2, seed)
    found = drawn(engine, 0, 1, seed=seed, draws=20)
    for number in range(2):
        exact = engine.log_prob(number, found.codes[number].numpy())
        assert found.log_prob[number].tolist() == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize("constrained", [False, True])
def test_a_decoder_that_shares_its_prompts_among_draws_gives_them_the_probability_that_score_items_gives(
    constrained: bool,
) -> None:
    engine, trie = EagerEngine(decoder(SIZES)), Trie.build(EVERY)
    prompts = random_prompts(SIZES, [6, 1, 0, 9])
    generator = torch.Generator().manual_seed(0)
    found = sample(engine, prompts, draws=30, generator=generator, trie=trie if constrained else None)
    exact = score_items(engine, prompts, trie, trie.rows(found.codes))
    assert torch.allclose(found.log_prob, exact, atol=1e-5)
    assert all(len(own.unique(dim=0)) > 4 for own in found.codes)


@pytest.mark.parametrize("trie", [None, Trie.build(LOPSIDED)], ids=["free", "along a trie"])
def test_the_seed_of_the_generator_decides_the_draws(trie: Trie | None) -> None:
    engine = TableEngine.random(SIZES, 2, seed=0)
    one, again, other = (drawn(engine, 0, 1, seed=seed, draws=50, trie=trie) for seed in (1, 1, 2))
    assert torch.equal(one.codes, again.codes)
    assert torch.equal(one.log_prob, again.log_prob)
    assert not torch.equal(one.codes, other.codes)


@pytest.mark.parametrize("trie", [None, Trie.build(EVERY)], ids=["free", "along a trie"])
def test_draws_are_independent_of_one_another_and_of_those_of_an_equal_prompt_beside_them(trie: Trie | None) -> None:
    engine = TableEngine.random(SIZES, 1, seed=5)
    codes = drawn(engine, 0, 0, seed=3, trie=trie).codes
    first, beside = (codes[prompt, :, 2] for prompt in range(2))
    for one, other in ((first, beside), (first[:-1], first[1:])):
        together = np.zeros((SIZES[2], SIZES[2]))
        np.add.at(together, (one.numpy(), other.numpy()), 1)
        assert stats.chi2_contingency(together).pvalue > CERTAIN
    equal = (codes[0] == codes[1]).all(dim=1).double().mean()
    alike = sum(share**2 for share in step_wise(engine, 0, EVERY).values())
    assert equal.item() == pytest.approx(alike, abs=0.03)


def test_without_a_trie_what_the_other_prompts_of_a_batch_are_changes_no_draw() -> None:
    """Along a trie only the distribution stays: how many random numbers a level takes depends on the widest node that
    any prompt of the batch has reached."""
    engine = TableEngine.random(SIZES, 5, seed=0)
    one, other = drawn(engine, 0, 1, 2, draws=50), drawn(engine, 3, 1, 4, draws=50)
    assert torch.equal(one.codes[1], other.codes[1])
    assert torch.equal(one.log_prob[1], other.log_prob[1])
    assert not torch.equal(one.codes[0], other.codes[0])


@pytest.mark.parametrize("sizes", [(1,), (1, 1, 1), SIZES])
def test_a_catalogue_of_one_item_gives_that_item(sizes: tuple[int, ...]) -> None:
    only = tuple(size - 1 for size in sizes)
    engine, trie = TableEngine.random(sizes, 1, seed=0), Trie.build(semantic_ids([only], sizes))
    found = drawn(engine, 0, draws=9, trie=trie)
    assert found.codes.tolist() == [[list(only)] * 9]
    assert found.log_prob[0].tolist() == pytest.approx([engine.log_prob(0, np.array([only]))[0]] * 9, abs=1e-5)


def test_draws_may_start_where_a_search_has_prefilled() -> None:
    engine = TableEngine.random(SIZES, 2, seed=0)
    frontier = engine.prefill(engine.prompts(0, 1))
    found = [sample(engine, frontier, draws=8, generator=torch.Generator().manual_seed(0)) for _ in range(2)]
    fresh = drawn(engine, 0, 1, draws=8)
    assert torch.equal(found[0].codes, fresh.codes)
    assert torch.equal(found[1].codes, fresh.codes)
