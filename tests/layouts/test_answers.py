"""Given answers in one packed pass against the engine that generates them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nextpage.alignment.log_probs import answer_log_probs
from nextpage.decoding.beam_search import score_items
from nextpage.decoding.engines.eager import EagerEngine
from nextpage.decoding.prompts import prompts_of
from nextpage.decoding.trie import Trie
from nextpage.interactions.sequences import Sequences
from nextpage.layouts.answers import lay_out_answers
from nextpage.layouts.packed import IGNORED
from nextpage.layouts.pages import PagesConfig
from nextpage.models.decoder import CausalDecoder
from nextpage.tokenizers.semantic_ids import SemanticIds
from nextpage.tokenizers.vocabulary import SEP
from tests.histories import SIZES, VOCABULARY, random_item_tokens, random_sequences, small_decoder

TOKENS = random_item_tokens()
EVERY = np.stack(np.meshgrid(*map(np.arange, SIZES), indexing="ij"), -1).reshape(-1, len(SIZES))
"""All codes there are, in order: the row of a tuple is its number in base 12."""
LAYOUTS = [PagesConfig(), PagesConfig(merged=False)]


def _prompts(users: int = 6) -> Sequences:
    """Histories of different lengths: the first has no event, the second none that the layout reads."""
    sequences = random_sequences(users)
    owner = np.repeat(np.arange(users), np.diff(sequences.offset))
    dropped = (owner == 0) | ((owner == 2) & (sequences.page > 0)) | ((owner == 3) & (sequences.page > 2))
    behaviour = np.where(owner == 1, 0, sequences.behaviour).astype(np.int8)
    return replace(sequences, behaviour=behaviour, target_from=sequences.as_of).select(~dropped)


def _answers(numbers: list[int], seed: int = 0) -> list[np.ndarray]:
    """Random code tuples as tokens, of which hardly any names one of the 90 items."""
    draw = np.random.default_rng(seed)
    return [VOCABULARY.tokens(draw.integers(0, SIZES[0], (number, len(SIZES)))) for number in numbers]


def _model(config: PagesConfig) -> CausalDecoder:
    model = small_decoder(token_merger=config.merged)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
    return model


@torch.no_grad()
def _log_probs(
    model: CausalDecoder, prompts: Sequences, answers: list[np.ndarray], config: PagesConfig, items: int = 20
) -> torch.Tensor:
    return answer_log_probs(model, lay_out_answers(prompts, answers, TOKENS, config, items))


@pytest.mark.parametrize("config", LAYOUTS, ids=["merged", "unmerged"])
@pytest.mark.parametrize("items", [1, 20, 1000])
def test_answers_have_the_probability_that_generation_gives_them(config: PagesConfig, items: int) -> None:
    """Whatever the prompt's length, none included, and whether or not the codes name an item."""
    model, prompts = _model(config), _prompts()
    answers = _answers([9] * len(prompts))
    found = _log_probs(model, prompts, answers, config, items).sum(dim=1).view(len(prompts), 9)
    ids = np.arange(len(EVERY)).astype(str).astype(object)
    trie = Trie.build(SemanticIds(item_ids=ids, codes=EVERY.astype(np.int32), sizes=SIZES))
    rows = trie.rows(torch.from_numpy(VOCABULARY.codes(np.stack(answers))))
    asked = prompts_of(prompts, TOKENS, config, items)
    assert sorted(asked.lengths.tolist())[:2] == [0, 0]
    assert len(asked.lengths.unique()) >= (2 if items == 1 else 4)
    expected = score_items(EagerEngine(model), asked, trie, rows)
    assert torch.allclose(found, expected, atol=1e-5)
    assert expected.std(dim=1).min() > 0.1  # answers differ, so that one in another's place would show


@pytest.mark.parametrize("config", LAYOUTS, ids=["merged", "unmerged"])
def test_what_is_learnt_lies_prompt_by_prompt_answer_by_answer_and_level_by_level(config: PagesConfig) -> None:
    prompts = _prompts()
    answers = _answers([3, 0, 7, 1, 2, 12])
    packed = lay_out_answers(prompts, answers, TOKENS, config, 20)
    learnt = packed.target != IGNORED
    assert packed.target[learnt].view(-1, len(SIZES)).tolist() == np.concatenate(answers).tolist()
    owner = np.repeat(np.arange(6), [3 * len(own) for own in answers])
    assert packed.sequence[learnt].tolist() == owner.tolist()
    before = packed.tokens[learnt, 0].view(-1, len(SIZES))
    assert (before[:, 0] == SEP).all()
    assert torch.equal(before[:, 1:], packed.target[learnt].view(-1, len(SIZES))[:, :-1])
    assert packed.padding == 0
    assert (packed.weight[learnt] == 1).all()


@pytest.mark.parametrize("config", LAYOUTS, ids=["merged", "unmerged"])
def test_packed_together_or_alone_an_answer_is_as_likely(config: PagesConfig) -> None:
    model, prompts = _model(config), _prompts()
    answers = _answers([2, 0, 3, 1, 2, 3])
    together = _log_probs(model, prompts, answers, config)
    alone = [
        _log_probs(model, prompts.take(np.array([row])), [answer[None]], config)
        for row, own in enumerate(answers)
        for answer in own
    ]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


def test_an_answer_given_twice_is_as_likely_each_time() -> None:
    config, prompts = PagesConfig(), _prompts()
    answers = [np.concatenate([own, own]) for own in _answers([4] * len(prompts))]
    found = _log_probs(_model(config), prompts, answers, config).view(len(prompts), 2, 4, -1)
    assert torch.allclose(found[:, 0], found[:, 1], atol=1e-6)


def test_an_answer_reads_the_last_events_of_its_prompt_and_no_earlier_ones() -> None:
    config, model, prompts = PagesConfig(), _model(PagesConfig()), _prompts()
    answers = _answers([5] * len(prompts))
    found = _log_probs(model, prompts, answers, config, items=4)
    read = prompts.select(prompts.behaviour > 0)
    place = np.arange(len(read.item)) - np.repeat(read.offset[1:], np.diff(read.offset))
    earlier = replace(read, item=np.where(place < -4, (read.item + 7) % 90, read.item))
    last = replace(read, item=np.where(place == -1, (read.item + 7) % 90, read.item))
    assert (place < -4).any()
    assert torch.allclose(_log_probs(model, earlier, answers, config, items=4), found, atol=1e-6)
    changed = (_log_probs(model, last, answers, config, items=4) - found).abs().sum(dim=1) > 1e-3
    assert changed.view(len(prompts), 5).all(dim=1).tolist() == (np.diff(read.offset) > 0).tolist()
