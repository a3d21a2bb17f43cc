"""The search of fixed shapes against the reference, and that the host reads nothing of it."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from nextpage.decoding.beam_search import Found, search
from nextpage.decoding.engine import Engine, Prompts
from nextpage.decoding.engines.cuda_engine import CudaEngine
from nextpage.decoding.engines.eager import EagerEngine
from nextpage.decoding.filters import Filters
from nextpage.decoding.static_search import most_candidates, static_search
from nextpage.decoding.trie import Trie
from nextpage.tokenizers.semantic_ids import SemanticIds
from tests.decoding.small import TableEngine, catalogues, decoder, filters, random_prompts, semantic_ids

seeds = st.integers(0, 2**32 - 1)


def static(
    engine: Engine, prompts: Prompts, trie: Trie, *, beam_width: int, k: int, allowed: Tensor | None = None
) -> Found:
    """The static search, called as `search` is."""
    return static_search(
        engine,
        prompts,
        trie,
        candidates=most_candidates(trie, beam_width),
        beam_width=beam_width,
        k=k,
        before=None if allowed is None else Filters.dense(allowed, len(prompts.tokens)).before,
    )


@settings(max_examples=200, deadline=None)
@given(catalogues(), seeds, st.integers(1, 30), st.integers(1, 30), st.data())
def test_it_finds_exactly_what_the_reference_search_finds(
    table: SemanticIds, seed: int, beam_width: int, k: int, data: st.DataObject
) -> None:
    engine, trie = TableEngine.random(table.sizes, 3, seed), Trie.build(table)
    allowed = data.draw(st.none() | filters(1, trie.items) | filters(3, trie.items))
    prompts = engine.prompts(0, 1, 2)
    expected = search(engine, prompts, trie, beam_width=beam_width, k=k, allowed=allowed)
    result = static(engine, prompts, trie, beam_width=beam_width, k=k, allowed=allowed)
    assert torch.equal(result.rows, expected.rows)
    assert torch.equal(result.log_prob, expected.log_prob)


@settings(max_examples=50, deadline=None)
@given(catalogues(), seeds, st.integers(1, 30), st.data())
def test_a_beam_that_covers_the_catalogue_ranks_as_enumeration_does(
    table: SemanticIds, seed: int, k: int, data: st.DataObject
) -> None:
    engine, trie = TableEngine.random(table.sizes, 2, seed), Trie.build(table)
    allowed = data.draw(filters(2, trie.items))
    result = static(engine, engine.prompts(0, 1), trie, beam_width=trie.items, k=k, allowed=allowed)
    for number in range(2):
        exact = engine.log_prob(number, table.codes)
        rows = sorted(np.flatnonzero(allowed[number]), key=lambda row: (-exact[row], row))[:k]
        padding = [-1] * (k - len(rows))
        assert result.rows[number].tolist() == [*rows, *padding]
        assert result.log_prob[number, : len(rows)].tolist() == pytest.approx(exact[rows].tolist(), abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(catalogues(most=12), st.lists(st.integers(0, 6), min_size=1, max_size=4), st.integers(1, 12), st.data())
def test_a_decoder_finds_the_same_items(
    table: SemanticIds, lengths: list[int], beam_width: int, data: st.DataObject
) -> None:
    engine, trie = EagerEngine(decoder(table.sizes, seed=data.draw(st.integers(0, 99)))), Trie.build(table)
    prompts, allowed = random_prompts(table.sizes, lengths), data.draw(filters(len(lengths), trie.items))
    expected = search(engine, prompts, trie, beam_width=beam_width, k=5, allowed=allowed)
    result = static(engine, prompts, trie, beam_width=beam_width, k=5, allowed=allowed)
    assert torch.equal(result.rows, expected.rows)
    torch.testing.assert_close(result.log_prob, expected.log_prob, atol=1e-5, rtol=0)


@settings(max_examples=50, deadline=None)
@given(catalogues(), seeds, st.integers(1, 6), st.integers(1, 9))
def test_more_room_for_candidates_changes_nothing(table: SemanticIds, seed: int, beam_width: int, room: int) -> None:
    engine, trie = TableEngine.random(table.sizes, 1, seed), Trie.build(table)
    tight, wide = (
        static_search(engine, engine.prompts(0), trie, candidates=candidates, beam_width=beam_width, k=5)
        for candidates in (
            most_candidates(trie, beam_width),
            tuple(most + room for most in most_candidates(trie, beam_width)),
        )
    )
    assert torch.equal(tight.rows, wide.rows)
    assert torch.equal(tight.log_prob, wide.log_prob)


def test_room_is_for_the_children_of_the_richest_nodes_only() -> None:
    rich, poor = [(0, code, 0) for code in range(9)], [(code, 0, 0) for code in range(1, 9)]
    trie = Trie.build(semantic_ids(rich + poor, (9, 9, 1)))
    assert most_candidates(trie, 3) == (9, 9 + 1 + 1, 3)
    assert most_candidates(trie, 100) == (9, 17, 17)


def without_values(program: Callable[..., Found]) -> Found:
    """Runs a program over tensors that have shapes and no values, so that the host cannot read any."""
    sizes = (5, 4, 3)
    trie = Trie.build(semantic_ids([(0, 1, 2), (3, 1, 0), (3, 2, 2)], sizes))
    prompts, candidates, model = random_prompts(sizes, [4, 2]), most_candidates(trie, 2), decoder(sizes)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        tokens, lengths, *edges = (
            mode.from_tensor(array) for array in (prompts.tokens, prompts.lengths, *trie.edge_codes, *trie.first_edges)
        )
        unread = cast(Prompts, SimpleNamespace(tokens=tokens, lengths=lengths))  # Prompts itself checks its lengths
        hollow = Trie(sizes=sizes, edge_codes=tuple(edges[:3]), first_edges=tuple(edges[3:]))
        filters = Filters.dense(torch.ones(2, trie.items, dtype=torch.bool), 2)
        return program(EagerEngine(model), unread, hollow, filters, candidates)


class OnTheDevice(TorchDispatchMode):
    """Refuses what a graph cannot record and yet needs no values: copies from the host, indices of unknown number."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.name()
        assert name not in ("aten::lift_fresh", "aten::nonzero", "aten::masked_select"), name
        if name in ("aten::index.Tensor", "aten::index_put", "aten::index_put_"):
            assert not any(index is not None and index.dtype == torch.bool for index in args[1]), name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("engine", [EagerEngine, CudaEngine])
def test_no_operator_of_it_waits_for_the_host(engine: Callable[..., Engine]) -> None:
    sizes = (5, 4, 3)
    trie = Trie.build(semantic_ids([(0, 1, 2), (3, 1, 0), (3, 2, 2)], sizes))
    made, prompts = engine(decoder(sizes)), random_prompts(sizes, [4, 2])
    with OnTheDevice():
        static_search(made, prompts, trie, candidates=(4, 4, 4), beam_width=2, k=4)


def test_the_host_reads_nothing_of_it() -> None:
    found = without_values(
        lambda engine, prompts, trie, filters, candidates: static_search(
            engine, prompts, trie, candidates=candidates, beam_width=2, k=4, before=filters.before
        )
    )
    assert isinstance(found.rows, FakeTensor)
    assert found.rows.shape == (2, 4)


def test_the_reference_search_reads_so_a_read_would_be_seen() -> None:
    with pytest.raises(DataDependentOutputException):
        without_values(
            lambda engine, prompts, trie, filters, candidates: search(
                engine, engine.prefill(prompts), trie, beam_width=2, k=4
            )
        )
