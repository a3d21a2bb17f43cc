"""Graph search without a GPU. A stand-in for CUDA's capture records a program's operators and the tensors they read,
once, and replays those: what Python did meanwhile is gone, as it is from a CUDA graph. CUDA itself is not run."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from nextpage.decoding.beam_search import Found, search
from nextpage.decoding.engines.cuda_engine import CudaEngine
from nextpage.decoding.engines.cuda_graph import GraphConfig, GraphSearch, Program
from nextpage.decoding.filters import Filters, ItemFilter
from nextpage.decoding.trie import Trie
from nextpage.tokenizers.semantic_ids import SemanticIds
from tests.decoding.small import TableEngine, catalogues, decoder, filters, random_prompts, semantic_ids

CONFIG = GraphConfig(batches=(1, 2, 4), lengths=(1, 4, 16), graphs=3, filters=4)


class Tape(TorchDispatchMode):
    """Every operator that runs, and the very tensors that it reads and gives."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], Any, Any]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, (args, kwargs or {}), result))
        return result

    def play(self, asked: list[Tensor]) -> list[Tensor]:
        """Run all again; what they give now in place of `asked`, which they gave when they were recorded."""
        now: dict[int, Tensor] = {}

        def renewed(value: Any) -> Any:
            return tree_map_only(Tensor, lambda tensor: now.get(id(tensor), tensor), value)

        for func, taken, recorded in self.calls:
            args, kwargs = renewed(taken)
            fresh = func(*args, **kwargs)
            now |= zip(map(id, tree_leaves(recorded)), tree_leaves(fresh), strict=True)
        return [renewed(tensor) for tensor in asked]


class Recorder:
    """In place of `record`."""

    def __init__(self) -> None:
        self.recordings = 0

    def __call__(self, program: Program) -> Program:
        self.recordings += 1
        with torch.inference_mode(), Tape() as tape:
            found = program()

        def replay() -> Found:
            with torch.inference_mode():
                rows, log_prob = tape.play([found.rows, found.log_prob])
            return Found(rows=rows, log_prob=log_prob)

        return replay


def some_filters(data: st.DataObject, prompts: int, items: int) -> Tensor | Filters | None:
    """None, one for all, booleans of each, or sets with a few rows excluded by the request."""
    allowed = data.draw(filters(prompts, items))
    rows = data.draw(st.lists(st.integers(0, items - 1), max_size=5))
    of_each = [ItemFilter.of(one).without(rows) for one in allowed[:-1]] + [None]
    return data.draw(st.sampled_from([None, allowed[0], allowed, Filters.of(of_each)]))


def same(result: Found, expected: Found) -> bool:
    return torch.equal(result.rows, expected.rows) and torch.equal(result.log_prob, expected.log_prob)


@settings(max_examples=25, deadline=None)
@given(catalogues(), st.integers(0, 99), st.data())
def test_request_after_request_and_catalogue_after_catalogue_it_finds_what_the_reference_finds(
    table: SemanticIds, seed: int, data: st.DataObject
) -> None:
    engine = TableEngine.random(table.sizes, 4, seed)
    kept = sorted(data.draw(st.sets(st.integers(0, len(table.codes) - 1), min_size=1)))
    smaller = SemanticIds(item_ids=table.item_ids[kept], codes=table.codes[kept], sizes=table.sizes)
    graphs = GraphSearch(engine, "cpu", CONFIG, capture=Recorder())
    for trie in (Trie.build(smaller), Trie.build(table), Trie.build(smaller)):
        for _ in range(2):
            numbers = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
            beam_width, k = data.draw(st.sampled_from([(3, 2), (2, 9)]))
            request = {"beam_width": beam_width, "k": k, "allowed": some_filters(data, len(numbers), trie.items)}
            expected = search(engine, engine.prompts(*numbers), trie, **request)
            assert same(graphs.search(engine.prompts(*numbers), trie, **request), expected)


def test_prompts_of_any_length_and_number_share_the_graph_of_their_bucket() -> None:
    sizes, recorder = (5, 4, 3), Recorder()
    codes = [(a, b, c) for a in range(5) for b in range(4) for c in range(3) if (a + b + c) % 2]
    engine, trie = CudaEngine(decoder(sizes)), Trie.build(semantic_ids(codes, sizes))
    graphs = GraphSearch(engine, "cpu", CONFIG, capture=recorder)
    for seed, lengths in enumerate([[7, 0, 3], [12, 1, 5, 9], [6, 15, 0]]):
        prompts = random_prompts(sizes, lengths, seed)
        found = graphs.search(prompts, trie, beam_width=4, k=6)
        expected = search(engine, prompts, trie, beam_width=4, k=6)
        assert torch.equal(found.rows, expected.rows)
        torch.testing.assert_close(found.log_prob, expected.log_prob, atol=0.02, rtol=0)  # bf16, other paddings
    assert recorder.recordings == 1
    graphs.search(random_prompts(sizes, [2]), trie, beam_width=4, k=6)
    assert recorder.recordings == 2


def request(graphs: GraphSearch, trie: Trie, beam_width: int = 2) -> Found:
    return graphs.search(TableEngine.random(trie.sizes, 1, 0).prompts(0), trie, beam_width=beam_width, k=4)


def table(items: int) -> Trie:
    return Trie.build(semantic_ids([(item % 4, item // 4) for item in range(items)], (4, 20)))


def test_a_catalogue_that_fits_is_copied_in_and_one_that_does_not_is_recorded_anew() -> None:
    recorder = Recorder()
    graphs = GraphSearch(TableEngine.random((4, 20), 1, 0), "cpu", CONFIG, capture=recorder)
    for items, recordings in [(40, 1), (44, 1), (8, 1), (42, 1), (80, 2), (40, 2)]:
        request(graphs, table(items))
        assert recorder.recordings == recordings


def test_a_catalogue_of_as_many_items_whose_nodes_are_richer_is_recorded_anew() -> None:
    recorder, sizes = Recorder(), (4, 20)
    engine = TableEngine.random(sizes, 1, 0)
    graphs = GraphSearch(engine, "cpu", CONFIG, capture=recorder)
    even = Trie.build(semantic_ids([(item % 4, item // 4) for item in range(24)], sizes))
    rich = Trie.build(semantic_ids([(0, item) for item in range(20)] + [(1, 0), (1, 1), (2, 0), (3, 0)], sizes))
    for trie in (even, rich):
        expected = search(engine, engine.prompts(0), trie, beam_width=2, k=4)
        assert same(request(graphs, trie), expected)
    assert recorder.recordings == 2


def test_only_the_buckets_used_last_stay_recorded() -> None:
    recorder, trie = Recorder(), table(8)
    graphs = GraphSearch(TableEngine.random((4, 20), 1, 0), "cpu", CONFIG, capture=recorder)
    for beam_width, recordings in [(1, 1), (2, 2), (3, 3), (1, 3), (4, 4), (1, 4), (2, 5)]:
        request(graphs, trie, beam_width)
        assert recorder.recordings == recordings


def test_what_a_search_gave_outlives_the_next_one() -> None:
    engine, trie = TableEngine.random((4, 20), 2, 0), table(40)
    graphs = GraphSearch(engine, "cpu", CONFIG, capture=Recorder())
    first = graphs.search(engine.prompts(0), trie, beam_width=3, k=3)
    rows = first.rows.clone()
    second = graphs.search(engine.prompts(1), trie, beam_width=3, k=3)
    assert not torch.equal(second.rows, rows)
    assert torch.equal(first.rows, rows)


def test_a_filter_that_is_asked_for_again_is_copied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, trie, copies = TableEngine.random((4, 20), 1, 0), table(40), []
    graphs = GraphSearch(engine, "cpu", CONFIG, capture=Recorder())
    in_stock = ItemFilter.of(np.arange(40) % 3 > 0)
    copy = Tensor.copy_
    monkeypatch.setattr(Tensor, "copy_", lambda into, given, **how: (copies.append(given), copy(into, given, **how))[1])
    for rows in ([1], [2, 4], []):
        graphs.search(engine.prompts(0), trie, beam_width=2, k=3, allowed=Filters.of([in_stock.without(rows)]))
    assert sum(given is in_stock.rank for given in copies) == 1


@pytest.mark.parametrize(
    ("numbers", "message"), [((0,) * 5, "5 prompts are more than the largest bucket's 4: add a bucket to GraphConfig")]
)
def test_what_no_bucket_holds_is_refused(numbers: tuple[int, ...], message: str) -> None:
    engine = TableEngine.random((4, 20), 1, 0)
    graphs = GraphSearch(engine, "cpu", CONFIG, capture=Recorder())
    with pytest.raises(ValueError, match=message):
        graphs.search(engine.prompts(*numbers), table(8), beam_width=2, k=3)


def test_fewer_slots_for_filters_than_prompts_are_refused() -> None:
    with pytest.raises(ValueError, match="3 filters cannot serve 8 prompts"):
        GraphConfig(batches=(1, 8), filters=3)


def test_threads_that_search_at_once_get_their_own_answers() -> None:
    engine, trie = TableEngine.random((4, 20), 4, 0), table(60)
    graphs = GraphSearch(engine, "cpu", CONFIG, capture=Recorder())
    expected = [search(engine, engine.prompts(number), trie, beam_width=3, k=5) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(
            lambda turn: graphs.search(engine.prompts(turn % 4), trie, beam_width=3, k=5), range(200), chunksize=1
        )
        assert all(same(one, expected[turn % 4]) for turn, one in enumerate(found))
