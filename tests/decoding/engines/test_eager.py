"""The eager engine against a full forward pass over each sequence, without caches, padding or batches."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nextpage.decoding.beam_search import generate, score_items, search
from nextpage.decoding.engine import Prompts
from nextpage.decoding.engines.eager import EagerEngine
from nextpage.decoding.trie import Trie
from nextpage.models.decoder import CausalDecoder
from nextpage.tokenizers.semantic_ids import SemanticIds
from nextpage.tokenizers.vocabulary import SEP, Vocabulary
from tests.decoding.small import catalogues, decoder, only, random_prompts

SIZES = (5, 4, 3)


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention written out: q [N, H, K], k and v [N, G, K]."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    scores = torch.einsum("nhk,mhk->hnm", q, k) / q.shape[-1] ** 0.5
    future = torch.ones(len(q), len(q), dtype=torch.bool).triu(1)
    return torch.einsum("hnm,mhk->nhk", scores.masked_fill(future, -torch.inf).softmax(-1), v)


@torch.no_grad()
def full_log_prob(model: CausalDecoder, prompts: Prompts, index: int, codes: np.ndarray) -> list[float]:
    """Log-probability of each of codes [I, L] after one prompt, one whole sequence at a time."""
    sizes = tuple(stop - start for start, stop in model.config.level_ranges)
    prompt, totals = only(prompts, index), []
    read, length = prompt.tokens[0], int(prompt.lengths[0])
    for tokens in Vocabulary(sizes).tokens(codes):
        suffix = torch.tensor([SEP, *tokens[:-1].tolist()])
        embed = model.embed_merged if read.ndim == 2 else model.embed
        x = torch.cat([embed(read), model.embed(suffix)])
        hidden = model(x, torch.arange(len(x)), causal)[length:]
        levels = [model.code_logits(hidden[level], level).log_softmax(-1) for level in range(len(sizes))]
        starts = [start for start, _ in model.config.level_ranges]
        totals.append(sum(float(levels[n][tokens[n] - starts[n]]) for n in range(len(sizes))))
    return totals


def all_codes(sizes: tuple[int, ...]) -> np.ndarray:
    return np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), -1).reshape(-1, len(sizes))


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("layers", [1, 3])
def test_every_code_has_the_probability_of_a_full_forward_pass(layers: int, kv_heads: int) -> None:
    model = decoder(SIZES, layers=layers, kv_heads=kv_heads)
    prompts = random_prompts(SIZES, [6, 1, 0, 9])
    generated = generate(EagerEngine(model), prompts, beam_width=100)
    for index in range(4):
        codes = generated.codes[index].numpy()
        assert len(codes) == np.prod(SIZES)
        expected = full_log_prob(model, prompts, index, codes)
        assert generated.log_prob[index].tolist() == pytest.approx(expected, abs=1e-5)


def test_prompts_of_plain_tokens_are_read_as_such() -> None:
    model = decoder(SIZES)
    merged = random_prompts(SIZES, [3, 2])
    plain = Prompts(tokens=merged.tokens.flatten(1), lengths=merged.lengths * 3)
    codes = all_codes(SIZES)
    generated = generate(EagerEngine(model), plain, beam_width=len(codes))
    for index in range(2):
        expected = full_log_prob(model, plain, index, generated.codes[index].numpy())
        assert generated.log_prob[index].tolist() == pytest.approx(expected, abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(catalogues(most=12), st.lists(st.integers(0, 6), min_size=1, max_size=4), st.integers(1, 12), st.data())
def test_search_and_score_items_agree_with_a_full_forward_pass(
    table: SemanticIds, lengths: list[int], k: int, data: st.DataObject
) -> None:
    model, trie = decoder(table.sizes, seed=data.draw(st.integers(0, 99))), Trie.build(table)
    prompts = random_prompts(table.sizes, lengths)
    found = search(EagerEngine(model), prompts, trie, beam_width=12, k=k)
    scores = score_items(EagerEngine(model), prompts, trie, torch.arange(trie.items).expand(len(lengths), -1))
    for index in range(len(lengths)):
        exact = full_log_prob(model, prompts, index, table.codes)
        assert scores[index].tolist() == pytest.approx(exact, abs=1e-5)
        rows = [row for row in found.rows[index].tolist() if row >= 0]
        assert len(set(rows)) == len(rows) == min(k, trie.items)
        best = sorted(exact, reverse=True)[: len(rows)]
        assert [exact[row] for row in rows] == pytest.approx(best, abs=1e-5)
        assert found.log_prob[index, : len(rows)].tolist() == pytest.approx(best, abs=1e-5)


def test_a_batch_of_different_lengths_finds_what_each_prompt_finds_alone() -> None:
    engine = EagerEngine(decoder(SIZES))
    codes = all_codes(SIZES)[::2]
    table = SemanticIds(item_ids=np.arange(len(codes)).astype(object), codes=codes.astype(np.int32), sizes=SIZES)
    prompts = random_prompts(SIZES, [7, 0, 3, 12, 1])
    allowed = torch.rand(5, len(codes), generator=torch.Generator().manual_seed(0)) < 0.4
    together = search(engine, prompts, Trie.build(table), beam_width=4, k=6, allowed=allowed)
    for index in range(5):
        alone = search(engine, only(prompts, index), Trie.build(table), beam_width=4, k=6, allowed=allowed[index])
        assert torch.equal(alone.rows[0], together.rows[index])
        torch.testing.assert_close(alone.log_prob[0], together.log_prob[index], atol=1e-5, rtol=0)


def test_a_step_leaves_the_state_it_started_from_unchanged() -> None:
    engine = EagerEngine(decoder(SIZES))
    start = engine.prefill(random_prompts(SIZES, [4]))
    step = engine.step(start.state, torch.tensor([[0, 0]]), torch.tensor([[1, 3]]), 1)
    engine.step(step.state, torch.tensor([[1, 1, 0]]), torch.tensor([[0, 2, 2]]), 2)
    again = engine.step(start.state, torch.tensor([[0, 0]]), torch.tensor([[1, 3]]), 1)
    assert torch.equal(step.logits, again.logits)


def test_the_prompt_is_held_once_however_many_beams_read_it() -> None:
    engine = EagerEngine(decoder(SIZES))
    start = engine.prefill(random_prompts(SIZES, [4, 2]))
    step = engine.step(start.state, torch.zeros(2, 5, dtype=torch.int64), torch.arange(5).expand(2, 5), 1)
    for before, after in zip(start.state.layers, step.state.layers, strict=True):
        assert after.prompt_k.data_ptr() == before.prompt_k.data_ptr()
        assert after.prompt_v.data_ptr() == before.prompt_v.data_ptr()


def test_bf16_keeps_the_ranking_close_and_leaves_the_given_decoder_in_fp32() -> None:
    model = decoder(SIZES)
    prompts = random_prompts(SIZES, [8, 5])
    exact = generate(EagerEngine(model), prompts, beam_width=60)
    rounded = generate(EagerEngine(model, dtype=torch.bfloat16), prompts, beam_width=60)
    assert model.embed_tokens.weight.dtype == torch.float32
    assert rounded.log_prob.dtype == torch.float32
    for index in range(2):
        assert rounded.log_prob[index].exp().sum().item() == pytest.approx(1, abs=1e-4)
        assert rounded.log_prob[index].tolist() == pytest.approx(exact.log_prob[index].tolist(), abs=0.3)


@pytest.mark.parametrize("length", [-1, 4])
def test_a_length_outside_the_prompt_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="leaves the range 0 to 3"):
        Prompts(tokens=torch.zeros(1, 3, 2, dtype=torch.int64), lengths=torch.tensor([length]))
