"""A cache of prompts against the engine alone, over sequences of requests as users make them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nextpage.decoding import prompt_cache
from nextpage.decoding.beam_search import Found, search
from nextpage.decoding.engine import Prompts
from nextpage.decoding.engines.eager import EagerEngine
from nextpage.decoding.prompt_cache import PromptCache
from nextpage.decoding.trie import Trie
from nextpage.tokenizers.semantic_ids import SemanticIds
from nextpage.tokenizers.vocabulary import Vocabulary
from tests.decoding.small import decoder

SIZES = (4, 3)
ITEMS = np.stack(np.meshgrid(*map(np.arange, SIZES), indexing="ij"), -1).reshape(-1, len(SIZES)).astype(np.int32)
TRIE = Trie.build(SemanticIds(item_ids=np.arange(len(ITEMS)).astype(object), codes=ITEMS, sizes=SIZES))
TOKENS = torch.from_numpy(Vocabulary(SIZES).tokens(ITEMS))
ENGINE = EagerEngine(decoder(SIZES, layers=3))
EVENT = 3 * 2 * 2 * 8 * 4  # bytes: layers, keys and values, heads, width, fp32
PLENTY = 1 << 20


def prompts_of(*histories: list[int], merged: bool = True) -> Prompts:
    """Padded with items that must not be read."""
    longest = max(map(len, histories)) + any(histories)  # where all are empty, there is no position at all
    tokens = torch.stack([TOKENS[history + [7] * (longest - len(history))] for history in histories])
    lengths = torch.tensor([len(history) for history in histories])
    return Prompts(tokens=tokens, lengths=lengths) if merged else Prompts(tokens=tokens.flatten(1), lengths=2 * lengths)


def found(engine: EagerEngine | PromptCache, prompts: Prompts) -> Found:
    return search(engine, prompts, TRIE, beam_width=len(ITEMS), k=len(ITEMS))


def assert_same(cache: PromptCache, prompts: Prompts) -> None:
    """Every item has the log-probability that it has without the cache; the order may differ where they are equal."""
    ours, alone = found(cache, prompts), found(ENGINE, prompts)
    for our_rows, our_log_prob, rows, log_prob in zip(
        ours.rows, ours.log_prob, alone.rows, alone.log_prob, strict=True
    ):
        torch.testing.assert_close(our_log_prob[our_rows.argsort()], log_prob[rows.argsort()], atol=1e-5, rtol=0)


def fates(cache: PromptCache) -> tuple[int, int, int]:
    return cache.hits, cache.extensions, cache.misses


histories = st.lists(st.integers(0, len(ITEMS) - 1), max_size=40)
moves = st.one_of(
    st.tuples(st.just("order"), st.lists(st.integers(0, len(ITEMS) - 1), min_size=1, max_size=9)),
    st.tuples(st.just("late"), st.integers(0, 99), st.integers(0, len(ITEMS) - 1)),
    st.tuples(st.just("slide"), st.integers(1, 5)),
    st.tuples(st.just("ask before"), st.integers(1, 20)),
    st.tuples(st.just("repeat")),
)


def moved(history: list[int], move: tuple) -> list[int]:  # type: ignore[type-arg]
    match move:
        case "order", new:
            return history + new
        case "late", place, item:
            place %= len(history) + 1
            return [*history[:place], item, *history[place:]]
        case "slide", events:
            return history[events:]
        case "ask before", events:
            return history[:-events]
    return history


@settings(max_examples=60, deadline=None)
@given(
    st.lists(histories, min_size=1, max_size=3),
    st.lists(st.lists(st.tuples(st.integers(0, 2), moves), min_size=1, max_size=4), min_size=1, max_size=8),
    st.sampled_from([PLENTY, 60 * EVENT, 10 * EVENT, 0]),
    st.booleans(),
)
def test_any_requests_find_what_they_find_without_a_cache(
    users: list[list[int]], batches: list[list[tuple[int, tuple]]], most: int, merged: bool
) -> None:
    cache = PromptCache(ENGINE, most)
    asked = 0
    for batch in batches:
        together = []
        for user, move in batch:
            user %= len(users)
            users[user] = moved(users[user], move)
            together.append(users[user])
        assert_same(cache, prompts_of(*together, merged=merged))
        asked += len(batch)
        assert sum(fates(cache)) == asked
        assert cache.nbytes == sum(entry.past.nbytes for entry in cache._entries.values()) <= most
        assert {id(entry) for entry in cache._found_by.values()} <= {id(entry) for entry in cache._entries.values()}


def test_a_collision_of_hashes_answers_for_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def lengths_alone(tokens: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.arange(tokens.shape[1] + 1), (len(tokens), tokens.shape[1] + 1))

    monkeypatch.setattr(prompt_cache, "_prefix_hashes", lengths_alone)
    cache = PromptCache(ENGINE, PLENTY)
    for history in ([1, 2, 3], [4, 5, 6], [1, 2, 3], [4, 5, 6, 7], [4, 5, 6]):
        assert_same(cache, prompts_of(history))
    assert cache.hits == 0


def test_only_what_is_new_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    run: list[int] = []
    attention_inputs = type(ENGINE.decoder.layers[0]).attention_inputs

    def counting(layer, x, position):  # type: ignore[no-untyped-def]
        if layer is ENGINE.decoder.layers[0] and x.ndim == 2:
            run.append(len(x))
        return attention_inputs(layer, x, position)

    monkeypatch.setattr(type(ENGINE.decoder.layers[0]), "attention_inputs", counting)
    cache, history = PromptCache(ENGINE, PLENTY), list(range(12)) * 2
    for asked in (history, history, [*history, 3, 4], [5, 5], history[:20], [*history[:13], 9, *history[13:]]):
        cache.prefill(prompts_of(asked))
    # SEP is always run; what was asked before is found up to the last mark that is no later.
    assert run == [25, 1, 3, 3, 5, 18]
    assert fates(cache) == (1, 3, 2)


def test_a_batch_of_hits_extensions_misses_and_the_empty_history() -> None:
    cache, history = PromptCache(ENGINE, PLENTY), [3, 1, 4, 1, 5, 9, 2, 6, 5]
    cache.prefill(prompts_of(history))
    assert_same(cache, prompts_of(history, [*history, 3, 5], [8, 9, 7], [], [8, 9, 7]))
    assert fates(cache) == (1, 1, 4)


@pytest.mark.parametrize("merged", [True, False])
def test_a_batch_of_empty_histories_alone(merged: bool) -> None:
    cache = PromptCache(ENGINE, PLENTY)
    assert_same(cache, prompts_of([], [], merged=merged))
    assert fates(cache) == (0, 0, 2)


def test_the_least_recently_used_prompt_is_evicted() -> None:
    cache = PromptCache(ENGINE, 6 * EVENT)
    first, second, third = [0, 1, 2], [3, 4, 5], [6, 7, 8]
    for asked in (first, second, first, third, first):
        cache.prefill(prompts_of(asked))
    assert fates(cache) == (2, 0, 3)
    cache.prefill(prompts_of(second))
    assert fates(cache) == (2, 0, 4)


def test_a_longer_prompt_takes_the_place_of_its_beginning() -> None:
    cache, history = PromptCache(ENGINE, PLENTY), [0, 1, 2, 3, 4]
    for events in (3, 4, 5):
        cache.prefill(prompts_of(history[:events]))
    assert cache.nbytes == 5 * EVENT
