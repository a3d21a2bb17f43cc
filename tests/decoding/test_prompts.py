"""What is generated has the probability that training gives it: one layout, two paths."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nextpage.decoding.beam_search import score_items
from nextpage.decoding.engines.eager import EagerEngine
from nextpage.decoding.prompts import prompts_of
from nextpage.decoding.trie import Trie
from nextpage.interactions.sequences import Sequences
from nextpage.layouts.pages import PagesConfig, lay_out
from nextpage.models.attention import dense_attention
from nextpage.models.decoder import CausalDecoder
from nextpage.objectives.next_token import embed_packed
from nextpage.tokenizers.vocabulary import Vocabulary
from tests.decoding.small import decoder, semantic_ids

SIZES = (4, 3, 3)
ITEMS = 20
DAY = 86_400
POINT_WISE = PagesConfig(page_wise=0.0)


def history(pages: list[list[int]], times: list[int], *, learn_from: int) -> Sequences:
    """One user's ordered pages; those from `learn_from` on are to be learnt."""
    events = [
        (item, number, time) for number, (page, time) in enumerate(zip(pages, times, strict=True)) for item in page
    ]
    item, page, time = np.asarray(events, dtype=np.int64).reshape(-1, 3).T
    return Sequences(
        user_id=np.array(["u"], dtype=object),
        as_of=np.array([times[-1] + 1]),
        target_from=np.array([learn_from]),
        offset=np.array([0, len(events)]),
        item=item.astype(np.int32),
        behaviour=np.full(len(events), 2, dtype=np.int8),
        page=page,
        time=time,
    )


@torch.no_grad()
def trained_log_prob(
    model: CausalDecoder, sequences: Sequences, item_tokens: np.ndarray, layout: PagesConfig
) -> list[tuple[int, ...]]:
    """(time, tokens …, log-probability) of each item that training learns as a branch of its own."""
    packed = lay_out(sequences, item_tokens, layout, [np.random.default_rng(0)])
    hidden = model(embed_packed(model, packed), packed.position, dense_attention(packed))
    learnt = []
    levels = item_tokens.shape[1]
    for start in (packed.target >= 0).nonzero()[::levels, 0].tolist():
        tokens = packed.target[start : start + levels].tolist()
        total = 0.0
        for level, token in enumerate(tokens):
            first, _ = model.config.level_ranges[level]
            total += float(model.code_logits(hidden[start + level], level).log_softmax(-1)[token - first])
        learnt.append((int(packed.time[start]), *tokens, total))
    return learnt


@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_an_item_has_the_same_probability_in_training_and_in_generation(seed: int, merged: bool) -> None:
    layout = replace(POINT_WISE, merged=merged)
    generator = np.random.default_rng(seed)
    table = semantic_ids([tuple(codes) for codes in generator.integers(0, SIZES, (ITEMS, 3))], SIZES)
    item_tokens = Vocabulary(SIZES).tokens(table.codes)
    pages = [generator.integers(0, ITEMS, size=generator.integers(1, 4)).tolist() for _ in range(6)]
    times = (1_000 * DAY + np.cumsum(generator.integers(1, 40 * DAY, size=6))).tolist()
    model = decoder(SIZES, seed=seed)
    if not merged:
        model.merger = None
    trie, engine = Trie.build(table), EagerEngine(model)
    learnt = trained_log_prob(model, history(pages, times, learn_from=times[0]), item_tokens, layout)
    assert len(learnt) == sum(map(len, pages))
    for time, *tokens, log_prob in learnt:
        seen = times.index(time)
        past = history(pages[: seen + 1], times[: seen + 1], learn_from=time)
        past = past.select(past.time < time)
        prompts = prompts_of(past, item_tokens, layout, items=100)
        codes = torch.from_numpy(Vocabulary(SIZES).codes(np.asarray(tokens))).long()
        scored = score_items(engine, prompts, trie, trie.rows(codes)[None, None])
        assert scored.item() == pytest.approx(log_prob, abs=1e-5)


def test_an_unmerged_prompt_is_the_codes_of_the_last_items_one_after_another() -> None:
    item_tokens = Vocabulary(SIZES).tokens(np.random.default_rng(0).integers(0, SIZES, (ITEMS, 3)))
    past = history([[3, 1], [4], [1, 5, 9]], [DAY, 2 * DAY, 3 * DAY], learn_from=3 * DAY)
    prompts = prompts_of(past, item_tokens, replace(POINT_WISE, merged=False), items=4)
    assert prompts.lengths.tolist() == [12]
    assert prompts.tokens.tolist() == [item_tokens[[4, 1, 5, 9]].reshape(-1).tolist()]
