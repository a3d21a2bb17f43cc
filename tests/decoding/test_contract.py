"""What every search promises, whichever engine and program runs it: docs/decoding.md, "What is promised".

A search joins the battery with a line in SEARCHES. The model is small and random, and brute force is a full forward
pass over each sequence, without caches, batches or a trie.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from nextpage.decoding.beam_search import Found, score_items, search
from nextpage.decoding.engine import Prompts
from nextpage.decoding.engines.eager import EagerEngine
from nextpage.decoding.engines.onnx_engine import OnnxEngine, build
from nextpage.decoding.filters import Filters, ItemFilter
from nextpage.decoding.static_search import most_candidates, static_search
from nextpage.decoding.trie import Trie
from nextpage.models.decoder import CausalDecoder
from nextpage.tokenizers.semantic_ids import SemanticIds
from nextpage.tokenizers.vocabulary import SEP
from tests.decoding.engines.test_eager import full_log_prob
from tests.decoding.small import decoder, only, random_prompts, semantic_ids

CLOSE = 1e-4


class Search(Protocol):
    def __call__(
        self, prompts: Prompts, trie: Trie, *, beam_width: int, k: int, allowed: Filters | None = None
    ) -> Found: ...


def eager(model: CausalDecoder, folder: Path) -> Search:
    return partial(search, EagerEngine(model))


def onnx(model: CausalDecoder, folder: Path) -> Search:
    build(model, folder, "fp32")
    return partial(search, OnnxEngine(folder, threads=1))


def static(model: CausalDecoder, folder: Path) -> Search:
    def run(prompts: Prompts, trie: Trie, *, beam_width: int, k: int, allowed: Filters | None = None) -> Found:
        candidates, before = most_candidates(trie, beam_width), None if allowed is None else allowed.before
        engine = EagerEngine(model)
        return static_search(engine, prompts, trie, candidates=candidates, beam_width=beam_width, k=k, before=before)

    return run


SEARCHES: dict[str, Callable[[CausalDecoder, Path], Search]] = {"eager": eager, "onnx": onnx, "static": static}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A search, and the model that it runs."""

    model: CausalDecoder
    search: Search

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(stop - start for start, stop in self.model.config.level_ranges)


def trial_of(name: str, sizes: tuple[int, ...], folder: Path) -> Trial:
    model = decoder(sizes, kv_heads=2)
    return Trial(model=model, search=SEARCHES[name](model, folder))


@pytest.fixture(scope="module", params=SEARCHES)
def trial(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return trial_of(request.param, (4, 3, 3), tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="module", params=SEARCHES)
def wide(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return trial_of(request.param, (30, 30, 4), tmp_path_factory.mktemp("engine"))


@st.composite
def tables(draw: st.DrawFn, sizes: tuple[int, ...] = (4, 3, 3)) -> SemanticIds:
    """1 to 20 items, often several with the same codes."""
    code = st.tuples(*(st.integers(0, size - 1) for size in sizes))
    return semantic_ids(draw(st.lists(code, min_size=1, max_size=20)), sizes)


@st.composite
def item_filters(draw: st.DrawFn, items: int, prompts: int) -> list[ItemFilter]:
    """As requests bring them: some share a set, some have none, most have rows of their own besides."""
    row = st.integers(0, items - 1)
    sets = [ItemFilter(), ItemFilter.of(np.zeros(items, dtype=bool))]
    sets.append(ItemFilter.of(np.array(draw(st.lists(st.booleans(), min_size=items, max_size=items)))))
    return [draw(st.sampled_from(sets)).without(draw(st.lists(row, max_size=items))) for _ in range(prompts)]


def shown(found: Found, index: int) -> tuple[list[int], list[float]]:
    """What one prompt got; checks what a caller may rely on whatever the model says."""
    rows, scores = found.rows[index].tolist(), found.log_prob[index].tolist()
    count = sum(row >= 0 for row in rows)
    assert rows[count:] == [-1] * (len(rows) - count)
    assert scores[count:] == [-float("inf")] * (len(rows) - count)
    assert len(set(rows[:count])) == count
    assert scores[:count] == sorted(scores[:count], reverse=True)
    return rows[:count], scores[:count]


BATTERY = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@BATTERY
@given(
    table=tables(), lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4), k=st.integers(1, 25), data=st.data()
)
def test_a_beam_that_covers_the_catalogue_ranks_as_brute_force_does_under_any_filters(
    trial: Trial, table: SemanticIds, lengths: list[int], k: int, data: st.DataObject
) -> None:
    trie, prompts = Trie.build(table), random_prompts(trial.sizes, lengths)
    filters = data.draw(item_filters(trie.items, len(lengths)))
    found = trial.search(prompts, trie, beam_width=50, k=k, allowed=Filters.of(filters))
    assert found.rows.shape == found.log_prob.shape == (len(lengths), k)
    for index, own in enumerate(filters):
        exact = full_log_prob(trial.model, prompts, index, table.codes)
        held = own.holds(np.arange(trie.items))
        rows, scores = shown(found, index)
        assert held[rows].all()
        best = sorted((exact[row] for row in np.flatnonzero(held)), reverse=True)[:k]
        assert [exact[row] for row in rows] == pytest.approx(best, abs=CLOSE)
        assert scores == pytest.approx(best, abs=CLOSE)


@BATTERY
@given(
    table=tables(),
    lengths=st.lists(st.integers(0, 9), min_size=2, max_size=5),
    beam_width=st.integers(1, 8),
    data=st.data(),
)
def test_a_prompt_gets_in_a_batch_of_other_lengths_and_filters_what_it_gets_alone(
    trial: Trial, table: SemanticIds, lengths: list[int], beam_width: int, data: st.DataObject
) -> None:
    trie, prompts = Trie.build(table), random_prompts(trial.sizes, lengths)
    filters = data.draw(item_filters(trie.items, len(lengths)))
    together = trial.search(prompts, trie, beam_width=beam_width, k=9, allowed=Filters.of(filters))
    for index, own in enumerate(filters):
        alone = trial.search(only(prompts, index), trie, beam_width=beam_width, k=9, allowed=Filters.of([own]))
        assert together.rows[index].tolist() == alone.rows[0].tolist()
        assert together.log_prob[index].tolist() == pytest.approx(alone.log_prob[0].tolist(), abs=CLOSE)


@pytest.mark.parametrize("left", [0, 1, 3])
def test_where_fewer_are_allowed_than_asked_for_those_few_come(trial: Trial, left: int) -> None:
    table = semantic_ids([(0, 0, 0), (0, 0, 0), (1, 2, 1), (3, 0, 2), (3, 2, 2)], trial.sizes)
    own = ItemFilter().without([4, 0, 2, 1, 3][: 5 - left])
    prompts = random_prompts(trial.sizes, [4])
    found = trial.search(prompts, Trie.build(table), beam_width=3, k=7, allowed=Filters.of([own]))
    assert sorted(shown(found, 0)[0]) == np.flatnonzero(own.holds(np.arange(5))).tolist()


def test_a_catalogue_of_one_item_gives_it(trial: Trial) -> None:
    trie = Trie.build(semantic_ids([(3, 2, 2)], trial.sizes))
    assert shown(trial.search(random_prompts(trial.sizes, [4]), trie, beam_width=5, k=5), 0)[0] == [0]


@pytest.mark.parametrize("k", [1, 2, 5])
def test_items_that_share_a_semantic_id_come_in_row_order_with_one_probability(trial: Trial, k: int) -> None:
    trie = Trie.build(semantic_ids([(1, 1, 1)] * 4, trial.sizes))
    rows, scores = shown(trial.search(random_prompts(trial.sizes, [2]), trie, beam_width=3, k=k), 0)
    assert rows == list(range(min(k, 4)))
    assert len(set(scores)) == 1


def test_catalogues_that_change_between_requests_leave_nothing_of_themselves_behind(trial: Trial) -> None:
    draw, prompts = np.random.default_rng(0), random_prompts(trial.sizes, [3, 5])
    tries = [
        Trie.build(semantic_ids([tuple(row) for row in draw.integers(0, trial.sizes, (count, 3))], trial.sizes))
        for count in (9, 30, 3)
    ]
    first, again = ([trial.search(prompts, trie, beam_width=4, k=6) for trie in tries] for _ in range(2))
    for before, after in zip(first, again, strict=True):
        assert torch.equal(before.rows, after.rows)
        assert torch.equal(before.log_prob, after.log_prob)
    assert not torch.equal(first[0].rows, first[1].rows)


def test_a_thousand_beams_and_five_hundred_items_rank_as_all_items_scored_one_by_one(wide: Trial) -> None:
    codes = np.random.default_rng(0).integers(0, wide.sizes, (2500, 3))
    trie = Trie.build(semantic_ids([tuple(row) for row in codes], wide.sizes))
    prompts = random_prompts(wide.sizes, [7, 2])
    own = ItemFilter.of(np.arange(trie.items) % 3 > 0).without(np.arange(400))
    found = wide.search(prompts, trie, beam_width=1000, k=500, allowed=Filters.of([own, None]))
    exact = score_items(EagerEngine(wide.model), prompts, trie, torch.arange(trie.items).expand(2, -1))
    for index, held in enumerate((torch.from_numpy(own.holds(np.arange(trie.items))), torch.ones(trie.items).bool())):
        rows, scores = shown(found, index)
        assert len(rows) == 500
        assert held[rows].all()
        best = exact[index].masked_fill(~held, -torch.inf).topk(500).values
        assert scores == pytest.approx(best.tolist(), abs=CLOSE)
        assert exact[index][rows].tolist() == pytest.approx(best.tolist(), abs=CLOSE)


def test_a_prompt_of_4096_items_beside_a_short_one_has_the_probabilities_of_a_full_forward_pass(trial: Trial) -> None:
    table = semantic_ids([(a, b, c) for a in range(4) for b in range(3) for c in range(3)], trial.sizes)
    prompts = random_prompts(trial.sizes, [4096, 3])
    found = trial.search(prompts, Trie.build(table), beam_width=4, k=2)
    for index in range(2):
        rows, scores = shown(found, index)
        exact = [whole_pass(trial.model, prompts, index, table.codes[row]) for row in rows]
        assert scores == pytest.approx(exact, abs=1e-3)


@torch.no_grad()
def whole_pass(model: CausalDecoder, prompts: Prompts, index: int, codes: np.ndarray) -> float:
    """As `full_log_prob`, with an attention that does not write all scores out."""

    def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return attended[0].transpose(0, 1)

    starts = np.array([start for start, _ in model.config.level_ranges])
    suffix = torch.tensor([SEP, *(starts + codes)[:-1].tolist()])
    x = torch.cat([model.embed_merged(only(prompts, index).tokens[0]), model.embed(suffix)])
    hidden = model(x, torch.arange(len(x)), causal)[-len(suffix) :]
    levels = (model.code_logits(hidden[level], level).log_softmax(-1) for level in range(len(codes)))
    return sum(float(log_softmax[code]) for log_softmax, code in zip(levels, codes, strict=True))
