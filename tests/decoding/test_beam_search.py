"""The search against enumeration, over a model that is a table."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nextpage.decoding import beam_search
from nextpage.decoding.beam_search import Found, generate, score_items, search
from nextpage.decoding.trie import Trie
from nextpage.tokenizers.semantic_ids import SemanticIds
from tests.decoding.small import TableEngine, catalogues, filters, semantic_ids

seeds = st.integers(0, 2**32 - 1)


def ranking(engine: TableEngine, number: int, table: SemanticIds, allowed: Tensor | None) -> list[tuple[int, float]]:
    """All allowed items with their log-probability, best first, equal ones by row."""
    log_prob = engine.log_prob(number, table.codes)
    rows = [row for row in range(len(log_prob)) if allowed is None or allowed[row]]
    return [(row, float(log_prob[row])) for row in sorted(rows, key=lambda row: (-log_prob[row], row))]


def found(result: Found, index: int) -> list[tuple[int, float]]:
    """The items of one prompt; checks that what is left is padded with -1 and -inf."""
    rows, log_prob = result.rows[index].tolist(), result.log_prob[index].tolist()
    items = [row for row in rows if row >= 0]
    assert rows[len(items) :] == [-1] * (len(rows) - len(items))
    assert log_prob[len(items) :] == [-float("inf")] * (len(rows) - len(items))
    return list(zip(items, log_prob, strict=False))


def naive_beam_search(
    engine: TableEngine, number: int, table: SemanticIds, allowed: Tensor, beam_width: int, k: int
) -> list[int]:
    """One prompt, with prefixes as tuples and a sorted list: beam search as a textbook has it."""
    codes = [tuple(row) for row in table.codes.tolist()]
    items = [row for row in range(len(codes)) if allowed[row]]
    beams: dict[tuple[int, ...], float] = {(): 0.0}
    for level, size in enumerate(table.sizes):
        extended = {}
        for prefix, score in beams.items():
            index = int(np.ravel_multi_index(prefix, table.sizes[:level])) if level else 0
            log_softmax = engine.tables[level][number, index].double().log_softmax(-1)
            for code in range(size):
                if any(codes[row][: level + 1] == (*prefix, code) for row in items):
                    extended[(*prefix, code)] = score + float(log_softmax[code])
        width = k if level == len(table.sizes) - 1 else beam_width
        beams = dict(sorted(extended.items(), key=lambda beam: -beam[1])[:width])
    return [row for prefix in beams for row in items if codes[row] == prefix][:k]


@settings(deadline=None)
@given(catalogues(), seeds, st.integers(1, 30), st.data())
def test_a_beam_that_covers_the_catalogue_ranks_as_enumeration_does(
    table: SemanticIds, seed: int, k: int, data: st.DataObject
) -> None:
    engine, trie = TableEngine.random(table.sizes, 3, seed), Trie.build(table)
    allowed = data.draw(st.none() | filters(3, trie.items))
    beam_width = data.draw(st.sampled_from([trie.items, 10 * trie.items]))
    result = search(engine, engine.prompts(0, 1, 2), trie, beam_width=beam_width, k=k, allowed=allowed)
    assert result.rows.shape == result.log_prob.shape == (3, k)
    for number in range(3):
        expected = ranking(engine, number, table, None if allowed is None else allowed[number])[:k]
        items = found(result, number)
        assert [row for row, _ in items] == [row for row, _ in expected]
        assert [score for _, score in items] == pytest.approx([score for _, score in expected], abs=1e-4)


@settings(deadline=None)
@given(catalogues(), seeds, st.integers(1, 6), st.integers(1, 30), st.data())
def test_a_narrow_beam_finds_what_a_textbook_beam_search_finds(
    table: SemanticIds, seed: int, beam_width: int, k: int, data: st.DataObject
) -> None:
    engine, trie = TableEngine.random(table.sizes, 2, seed), Trie.build(table)
    allowed = data.draw(filters(2, trie.items))
    result = search(engine, engine.prompts(0, 1), trie, beam_width=beam_width, k=k, allowed=allowed)
    for number in range(2):
        items = found(result, number)
        rows = [row for row, _ in items]
        assert rows == naive_beam_search(engine, number, table, allowed[number], beam_width, k)
        exact = dict(ranking(engine, number, table, allowed[number]))
        assert [score for _, score in items] == pytest.approx([exact[row] for row in rows], abs=1e-4)


@settings(deadline=None)
@given(catalogues(), seeds, st.integers(1, 8), st.data())
def test_a_batch_finds_what_each_prompt_finds_alone(
    table: SemanticIds, seed: int, beam_width: int, data: st.DataObject
) -> None:
    engine, trie = TableEngine.random(table.sizes, 4, seed), Trie.build(table)
    allowed = data.draw(filters(4, trie.items))
    together = search(engine, engine.prompts(0, 1, 2, 3), trie, beam_width=beam_width, k=8, allowed=allowed)
    for number in range(4):
        alone = search(engine, engine.prompts(number), trie, beam_width=beam_width, k=8, allowed=allowed[number])
        assert torch.equal(alone.rows[0], together.rows[number])
        assert torch.equal(alone.log_prob[0], together.log_prob[number])


@settings(deadline=None)
@given(catalogues(), seeds, st.data())
def test_score_items_is_the_chain_rule_in_any_order_with_repeats_and_padding(
    table: SemanticIds, seed: int, data: st.DataObject
) -> None:
    engine, trie = TableEngine.random(table.sizes, 2, seed), Trie.build(table)
    item = st.integers(-1, trie.items - 1)
    rows = torch.tensor([data.draw(st.lists(item, min_size=7, max_size=7)) for _ in range(2)])
    scores = score_items(engine, engine.prompts(0, 1), trie, rows)
    for number in range(2):
        exact = [*engine.log_prob(number, table.codes), -np.inf]
        assert scores[number].tolist() == pytest.approx([exact[row] for row in rows[number].tolist()], abs=1e-4)


@settings(deadline=None)
@given(catalogues(), seeds)
def test_a_wide_free_search_gives_every_code_once_with_probabilities_that_sum_to_one(
    table: SemanticIds, seed: int
) -> None:
    engine, number = TableEngine.random(table.sizes, 2, seed), int(np.prod(table.sizes))
    generated = generate(engine, engine.prompts(0, 1), beam_width=1000)
    for prompt in range(2):
        codes = generated.codes[prompt].numpy()
        assert len({tuple(code) for code in codes.tolist()}) == len(codes) == number
        assert generated.log_prob[prompt].tolist() == pytest.approx(engine.log_prob(prompt, codes), abs=1e-4)
        assert (generated.log_prob[prompt].diff() <= 0).all()
        assert generated.log_prob[prompt].exp().sum().item() == pytest.approx(1, abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_a_narrow_free_search_is_the_search_over_a_catalogue_of_all_codes(seed: int) -> None:
    sizes = (3, 4, 2)
    table = semantic_ids([(a, b, c) for a in range(3) for b in range(4) for c in range(2)], sizes)
    engine, trie = TableEngine.random(sizes, 1, seed), Trie.build(table)
    generated = generate(engine, engine.prompts(0), beam_width=3)
    result = search(engine, engine.prompts(0), trie, beam_width=3, k=3)
    assert trie.rows(generated.codes).tolist() == result.rows.tolist()


def test_items_that_share_a_semantic_id_share_its_probability_and_stand_in_row_order() -> None:
    table = semantic_ids([(0, 1), (0, 1), (1, 0), (0, 1)], (2, 2))
    engine = TableEngine.random(table.sizes, 1, seed=1)
    result = search(engine, engine.prompts(0), Trie.build(table), beam_width=2, k=4)
    shared = [(row, score) for row, score in found(result, 0) if row < 3]
    assert [row for row, _ in shared] == [0, 1, 2]
    assert len({score for _, score in shared}) == 1


@pytest.mark.parametrize("k", [1, 2])
def test_where_k_cuts_through_items_that_share_a_semantic_id_the_first_rows_stay(k: int) -> None:
    table = semantic_ids([(0, 0)] * 40, (1, 1))
    engine = TableEngine.random(table.sizes, 1, seed=0)
    result = search(engine, engine.prompts(0), Trie.build(table), beam_width=5, k=k)
    assert result.rows.tolist() == [list(range(k))]


def test_one_search_may_start_where_another_has_prefilled() -> None:
    table = semantic_ids([(0, 1), (1, 0), (1, 1)], (2, 2))
    engine, trie = TableEngine.random(table.sizes, 1, seed=0), Trie.build(table)
    frontier = engine.prefill(engine.prompts(0))
    again = [search(engine, frontier, trie, beam_width=2, k=3) for _ in range(2)]
    fresh = search(engine, engine.prompts(0), trie, beam_width=2, k=3)
    assert torch.equal(again[0].rows, fresh.rows)
    assert torch.equal(again[1].rows, fresh.rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beam_width": 0}, "beam_width 0"),
        ({"k": 0}, "k 0"),
        ({"allowed": torch.ones(1, 3, dtype=torch.bool)}, r"filter has shape \(1, 3\), expected \(1, 2\)"),
        ({"allowed": torch.ones(2, 2, dtype=torch.bool)}, r"filter has shape \(2, 2\), expected \(1, 2\)"),
    ],
)
def test_a_request_that_fits_no_catalogue_is_refused(changes: dict[str, object], message: str) -> None:
    table = semantic_ids([(0, 1), (1, 0)], (2, 2))
    engine = TableEngine.random(table.sizes, 1, seed=0)
    request: dict[str, object] = {"beam_width": 2, "k": 2} | changes
    with pytest.raises(ValueError, match=message):
        search(engine, engine.prompts(0), Trie.build(table), **request)  # type: ignore[arg-type]


def test_an_engine_of_another_release_is_refused() -> None:
    engine = TableEngine.random((2, 3), 1, seed=0)
    with pytest.raises(ValueError, match=r"sizes \(2, 3\), the trie holds \(2, 2\)"):
        search(engine, engine.prompts(0), Trie.build(semantic_ids([(0, 1)], (2, 2))), beam_width=1, k=1)


@settings(max_examples=50, deadline=None)
@given(catalogues(), seeds, st.integers(1, 8), st.integers(1, 40), st.data())
def test_how_many_children_are_weighed_at_a_time_changes_nothing(
    table: SemanticIds, seed: int, beam_width: int, at_a_time: int, data: st.DataObject
) -> None:
    engine, trie = TableEngine.random(table.sizes, 3, seed), Trie.build(table)
    allowed = data.draw(st.none() | filters(3, trie.items))
    prompts = engine.prompts(0, 1, 2)
    at_once = search(engine, prompts, trie, beam_width=beam_width, k=8, allowed=allowed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beam_search, "CANDIDATES", at_a_time)
        few = search(engine, prompts, trie, beam_width=beam_width, k=8, allowed=allowed)
    assert torch.equal(few.rows, at_once.rows)
    assert torch.equal(few.log_prob, at_once.log_prob)
