"""Rollouts come from the policy as it stands, and from nothing else that would not come again."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, repeat

import numpy as np
import pytest
import torch

from nextpage.alignment.generation import Generation
from nextpage.alignment.on_policy import OnPolicy
from nextpage.alignment.pages import Asked
from nextpage.alignment.policy import PolicyConfig, Rollouts, advantages
from nextpage.alignment.rewards import RewardsConfig, rewards
from nextpage.layouts.packed import IGNORED
from nextpage.models.decoder import CausalDecoder
from tests.alignment.small import generation, judge, pages, policy
from tests.histories import VOCABULARY

GROUP, PROMPTS, LEVELS = 6, 4, 3
CONFIG = PolicyConfig(group=GROUP, nll_weight=0.1, rollouts="draws", entropy=0.0, spread="group")
PRICE = RewardsConfig(terms={"value": 1.0}, gate=None, anchored=False)


@dataclass(frozen=True)
class _Always:
    """Asks the same pages at every step, of every process."""

    asked: Asked

    def walk(self, size: int, *, start: int, rank: int, processes: int) -> Iterator[Asked]:
        return repeat(self.asked)


def _source(model: CausalDecoder | None = None, config: PolicyConfig = CONFIG, seed: int = 0) -> OnPolicy:
    return OnPolicy(
        generation=generation(model),
        pages=pages(),
        judge=judge(),
        rewards=PRICE,
        config=config,
        prompts=PROMPTS,
        seed=seed,
    )


def _walk(model: CausalDecoder, start: int = 0, rank: int = 0, processes: int = 1) -> Iterator[Rollouts]:
    return _source(model).walk(start=start, rank=rank, processes=processes)


def _answers(batch: Rollouts) -> torch.Tensor:
    """int64 [A, L] tokens."""
    return batch.packed.target[batch.packed.target != IGNORED].view(-1, LEVELS)


def _asked(batch: Rollouts) -> set[tuple[int, ...]]:
    """The moment and the history of each prompt."""
    packed = batch.packed
    return {
        (int(packed.time[middle]), *packed.tokens[start:middle].flatten().tolist()) for start, middle, _ in packed.spans
    }


def _drawn(batch: Rollouts) -> list[list[int]]:
    return _answers(batch)[batch.is_rollout].tolist()


def _rows(batch: Rollouts, by: Generation) -> np.ndarray:
    """Of the rollouts: int [B, G]"""
    codes = VOCABULARY.codes(_answers(batch)[batch.is_rollout].numpy())
    return by.trie.rows(torch.from_numpy(codes)).numpy().reshape(-1, GROUP)


@torch.no_grad()
def _update(model: CausalDecoder) -> None:
    for weight in model.parameters():
        weight += 0.2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))


def test_a_batch_is_drawn_from_the_weights_of_the_moment_it_is_asked_for() -> None:
    model, still = policy(), policy()
    learning, waiting = _walk(model), _walk(still)
    assert _drawn(next(learning)) == _drawn(next(waiting))
    _update(model)
    after, before = next(learning), next(waiting)
    assert after.packed.time.tolist() == before.packed.time.tolist()  # the same pages are asked
    assert _drawn(after) != _drawn(before)
    assert _drawn(after) == _drawn(next(_walk(model, start=1)))


def test_the_same_weights_seed_and_step_give_the_same_batch() -> None:
    for one, other in islice(zip(_walk(policy()), _walk(policy()), strict=True), 3):
        assert torch.equal(one.packed.target, other.packed.target)
        assert torch.equal(one.advantage, other.advantage)
    third, from_there = list(islice(_walk(policy()), 3))[2], next(_walk(policy(), start=2))
    assert torch.equal(third.packed.target, from_there.packed.target)
    assert torch.equal(third.advantage, from_there.advantage)


def test_seed_step_and_rank_each_draw_anew() -> None:
    """Even of the very same pages."""
    page = pages().asked(np.arange(PROMPTS))
    drawn = []
    for seed, step, rank in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]:
        source = replace(_source(seed=seed), pages=_Always(page))  # type: ignore[arg-type]
        drawn.append(_drawn(next(source.walk(start=step, rank=rank, processes=2))))
    assert all(one != other for place, one in enumerate(drawn) for other in drawn[:place])


def test_processes_share_the_prompts_of_a_step() -> None:
    whole, parts = next(_walk(policy())), [next(_walk(policy(), rank=rank, processes=2)) for rank in range(2)]
    first, second = (_asked(part) for part in parts)
    assert first | second == _asked(whole)
    assert len(first) == len(second) == PROMPTS // 2
    assert not first & second
    assert _drawn(parts[0]) != _drawn(parts[1])


@pytest.mark.parametrize("constrained", [False, True])
def test_rollouts_along_the_trie_all_name_an_item_and_free_ones_need_not(constrained: bool) -> None:
    source = _source(config=replace(CONFIG, constrained=constrained))
    rows = np.concatenate([_rows(b, source.generation) for b in islice(source.walk(start=0, rank=0, processes=1), 5)])
    assert (rows >= 0).all() == constrained
    assert (rows >= 0).any()


def test_advantages_are_those_of_what_each_rollout_earns_and_what_names_no_item_is_never_better() -> None:
    source, seen = _source(), 0
    walked = source.walk(start=0, rank=0, processes=1)
    for asked in islice(pages().walk(PROMPTS, start=0, rank=0, processes=1), 6):
        batch = next(walked)
        rows = _rows(batch, source.generation)
        reward = rewards(asked.prompts, rows, asked.positives, source.judge, PRICE)
        found = batch.advantage[batch.is_rollout].view(PROMPTS, GROUP)
        assert torch.equal(found, advantages(torch.from_numpy(reward)))
        seen += int((rows < 0).sum())
        assert (found.numpy()[rows < 0] <= 0).all()
    assert seen > 0


def test_after_its_rollouts_a_prompt_has_its_positives_unless_there_is_no_term_for_them() -> None:
    asked = next(pages().walk(PROMPTS, start=0, rank=0, processes=1))
    tokens = generation().item_tokens
    batch = next(_walk(policy()))
    assert batch.prompts == len(asked) == PROMPTS
    for row, own in enumerate(asked.positives):
        mine = batch.prompt == row
        assert batch.is_rollout[mine].tolist() == [True] * GROUP + [False] * len(own)
        assert _answers(batch)[mine & ~batch.is_rollout].tolist() == tokens[own].tolist()
    assert (batch.advantage[~batch.is_rollout] == 0).all()
    plain = next(_source(config=replace(CONFIG, nll_weight=0.0)).walk(start=0, rank=0, processes=1))
    assert plain.is_rollout.all()
    assert _drawn(plain) == _drawn(batch)


def test_beams_are_the_likeliest_answers_all_distinct() -> None:
    asked = pages().asked(np.arange(PROMPTS))
    for constrained in (True, False):
        source = _source(config=replace(CONFIG, rollouts="beams", constrained=constrained))
        answers, drawn = (source.roll_out(asked, (0,)), _source().roll_out(asked, (0,)))
        assert all(len({tuple(codes) for codes in own}) == GROUP for own in answers.codes.tolist())
        assert (np.diff(answers.log_prob, axis=1) <= 0).all()
        assert (answers.rows >= 0).all() if constrained else True
        if not constrained:
            assert (answers.log_prob[:, :1] >= drawn.log_prob - 1e-5).all()


def test_more_items_than_the_catalogue_holds_cannot_be_asked_for() -> None:
    source = _source(config=replace(CONFIG, rollouts="beams", constrained=True, group=200))
    with pytest.raises(ValueError, match="200 items of each prompt are asked for, the catalogue holds 90"):
        source.roll_out(pages().asked(np.arange(1)), (0,))


def test_entropy_favours_what_the_policy_finds_unlikely_and_never_what_names_no_item() -> None:
    """With no other reward, advantages follow −log π; answers that name no item stay at 0, the least."""
    nothing = RewardsConfig(terms={"value": 0.0}, gate=None, anchored=False)
    config = replace(CONFIG, rollouts="beams", entropy=0.5)
    source = replace(_source(config=config), rewards=nothing, pages=_Always(pages().asked(np.arange(PROMPTS))))  # type: ignore[arg-type]
    answers = source.roll_out(pages().asked(np.arange(PROMPTS)), (0, 0, 0))
    batch = next(source.walk(start=0, rank=0, processes=1))
    expected = advantages(torch.from_numpy(np.where(answers.rows >= 0, -0.5 * answers.log_prob, 0.0)).float())
    assert torch.allclose(batch.advantage[batch.is_rollout].view(PROMPTS, GROUP), expected, atol=1e-5)
