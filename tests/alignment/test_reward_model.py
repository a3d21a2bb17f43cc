"""The searches, the attention over what they find, and rewards as they are asked for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nextpage.alignment.reward_examples import Draws, histories_at, padded, pages_to_learn
from nextpage.alignment.reward_items import WEEK, RewardItems
from nextpage.alignment.reward_model import (
    RewardModel,
    RewardModelConfig,
    RewardObjective,
    attend,
    hard_search,
    make_reward_model,
    read,
    score,
    soft_search,
    write,
)
from nextpage.interactions.sequences import Sequences
from nextpage.recipes import Recipe
from tests.alignment.planted import ITEMS, ORDERED, START, catalogue, one_category_each

CONFIG = RewardModelConfig(events=40, soft_events=6, width=8, mlp_width=16)
LOG = one_category_each(10)


@pytest.fixture(scope="module")
def model() -> RewardModel:
    """Random weights, large enough for every input to show."""
    torch.manual_seed(0)
    model = make_reward_model(CONFIG, RewardItems.of(catalogue(), LOG))
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.2 * torch.randn_like(weight)
    return model.eval()


def _candidates(rows: int, number: int = 9) -> np.ndarray:
    return np.random.default_rng(1).integers(0, ITEMS, (rows, number))


def test_the_hard_search_finds_the_events_of_the_candidates_category_and_no_others() -> None:
    found = hard_search(torch.tensor([[1, 2]]), torch.tensor([[1, 2, 1, 3, 1]]), torch.tensor([[1, 1, 1, 1, 0]]).bool())
    assert found.tolist() == [[[True, False, True, False, False], [False, True, False, False, False]]]


def test_the_soft_search_finds_the_nearest_events_and_no_padding() -> None:
    draw = torch.Generator().manual_seed(0)
    wanted, event = torch.randn(3, 4, 8, generator=draw), torch.randn(3, 20, 8, generator=draw)
    there = torch.arange(20) < torch.tensor([[20], [11], [3]])
    found = soft_search(wanted, event, there, 5)
    product = (wanted @ event.mT).masked_fill(~there[:, None], -torch.inf)
    assert found.sum(dim=2).tolist() == [[5] * 4, [5] * 4, [3] * 4]
    for row in range(2):
        for place in range(4):
            nearest = set(product[row, place].argsort(descending=True)[:5].tolist())
            assert set(found[row, place].nonzero().flatten().tolist()) == nearest


def test_attention_sees_only_what_was_found() -> None:
    draw = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 3, 8, generator=draw), torch.randn(2, 10, 8, generator=draw)
    found = torch.rand(2, 3, 10, generator=draw) < 0.4
    found[:, :, 7] = False
    changed = key.clone()
    changed[:, 7] += 5
    for one, other in zip(attend(query, key, found), attend(query, changed, found), strict=True):
        assert torch.equal(one, other)
    changed[:, 0] += 5
    assert not torch.equal(attend(query, key, found)[0], attend(query, changed, found)[0])


def test_intensity_is_not_normalised_away() -> None:
    draw = torch.Generator().manual_seed(0)
    query, key = torch.randn(1, 2, 8, generator=draw), torch.randn(1, 6, 8, generator=draw)
    every = torch.ones(1, 2, 6).bool()
    once, intensity = attend(query, key, every)
    thrice, more = attend(query, key.repeat(1, 3, 1), every.repeat(1, 1, 3))
    assert torch.allclose(more.expm1(), 3 * intensity.expm1(), rtol=1e-5)
    assert torch.allclose(thrice / more, once / intensity, rtol=1e-4)
    nothing, none = attend(query, key, ~every)
    assert not nothing.any()
    assert not none.any()


@torch.inference_mode()
def test_rewards_are_those_that_training_computes(model: RewardModel) -> None:
    pages = pages_to_learn(LOG, CONFIG.examples.labels).take(np.arange(0, 100, 7))
    batch = Draws(RewardItems.of(catalogue(), LOG), CONFIG.examples).examples(
        pages, np.random.default_rng(0), CONFIG.events
    )
    user = np.searchsorted(LOG.offset, pages.start, side="right") - 1
    whole = LOG.take(user)
    owner = np.repeat(np.arange(len(whole)), np.diff(whole.offset))
    prompts = replace(whole.select(whole.time < pages.time[owner]), as_of=pages.time)
    rewards = score(model, prompts, batch.candidate.numpy())
    there = batch.candidate >= 0
    logits = model(batch.history, batch.candidate)
    assert np.allclose(rewards[there], logits.sigmoid()[there], atol=1e-6)
    assert not rewards[~there].any()
    losses, weights = RewardObjective(model)(batch)
    odds = batch.expected[there].double() * (1 / torch.from_numpy(rewards).double()[there] - 1)
    drawn, label = 1 / (1 + odds), batch.label[there].double()
    assert torch.allclose(losses.double(), -(label * drawn.log() + (1 - label) * (1 - drawn).log()), rtol=1e-3)
    assert weights.tolist() == [1.0] * int(there.sum())


def test_what_stands_beside_a_history_changes_nothing(model: RewardModel) -> None:
    short = LOG.select(LOG.page < 2)
    both = LOG.take(np.array([3, 4]))
    together = Sequences(
        **{
            name: np.concatenate([getattr(short.take(np.array([0])), name), getattr(both, name)])
            for name in vars(LOG)
            if name != "offset"
        },
        offset=np.concatenate([[0], 10 + both.offset]),
    )
    items = _candidates(3)
    assert np.allclose(
        score(model, together, items)[0], score(model, short.take(np.array([0])), items[:1])[0], atol=1e-6
    )


def test_only_the_last_events_of_a_history_count(model: RewardModel) -> None:
    items = _candidates(len(LOG))
    assert np.allclose(score(model, LOG, items), score(model, LOG.last(CONFIG.events), items), atol=1e-6)


def test_what_an_event_was_when_and_of_what_behaviour_counts(model: RewardModel) -> None:
    items = _candidates(len(LOG))
    rewards = score(model, LOG, items)
    for changed in (
        replace(LOG, item=np.roll(LOG.item, 1)),
        replace(LOG, behaviour=np.full_like(LOG.behaviour, ORDERED)),
        replace(LOG, time=LOG.time - 9 * 86_400),
        replace(LOG, page=LOG.page * 3),
    ):
        assert np.abs(rewards - score(model, changed, items)).max() > 1e-4


def test_rows_of_no_item_earn_nothing_and_an_empty_history_is_no_error(model: RewardModel) -> None:
    nobody = LOG.select(np.zeros(len(LOG.item), dtype=bool))
    items = _candidates(len(LOG))
    items[:, 2] = -1
    rewards = score(model, nobody, items)
    assert rewards.dtype == np.float32
    assert not rewards[:, 2].any()
    assert (np.delete(rewards, 2, axis=1) > 0).all()
    assert (rewards < 1).all()


def test_scoring_leaves_the_model_and_the_random_state_as_they_are(model: RewardModel) -> None:
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    score(model, LOG, _candidates(len(LOG)))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


def test_a_model_read_again_gives_the_same_rewards(model: RewardModel, tmp_path: Path) -> None:
    write(model, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reward_model.json", "reward_model.safetensors"]
    again, items = read(tmp_path), _candidates(len(LOG))
    assert again.config == CONFIG
    assert np.allclose(score(again, LOG, items), score(model, LOG, items), atol=1e-6)
    write(again, tmp_path / "twice")
    assert np.array_equal(score(read(tmp_path / "twice"), LOG, items), score(again, LOG, items))


def test_popularity_is_of_the_weeks_that_had_ended() -> None:
    items = RewardItems.of(catalogue(), LOG)
    model = make_reward_model(replace(CONFIG, recent_weeks=1), items)
    time = torch.tensor([START, START + 2 * WEEK + 60, START + 99 * WEEK])
    wanted = torch.arange(ITEMS).expand(3, -1)
    total, recent = (model._popularity(time, wanted) * 4).expm1().unbind(-1)
    counted = (LOG.behaviour > 0) & (LOG.page >= 3)
    start = LOG.time[counted].min()
    week = (LOG.time - start) // WEEK

    def taken(number: int) -> torch.Tensor:
        return torch.from_numpy(np.bincount(LOG.item[counted & (week == number)], minlength=ITEMS)).float()

    assert torch.allclose(total, torch.from_numpy(np.bincount(LOG.item[counted], minlength=ITEMS)).float(), atol=1e-4)
    assert not recent[0].any()
    assert torch.allclose(recent[1], taken(int((START + 2 * WEEK + 60 - start) // WEEK) - 1), atol=1e-4)
    assert torch.allclose(recent[2], taken(int(week[counted].max())), atol=1e-4)


def test_every_weight_learns(model: RewardModel) -> None:
    pages = pages_to_learn(LOG, CONFIG.examples.labels)
    draws = Draws(RewardItems.of(catalogue(), LOG), CONFIG.examples)
    losses, weights = RewardObjective(model)(draws.examples(pages, np.random.default_rng(0), CONFIG.events))
    gradients = torch.autograd.grad((losses * weights).mean(), tuple(model.parameters()))
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_a_history_of_any_length_fits_the_age_buckets(model: RewardModel) -> None:
    ancient = replace(LOG.take(np.array([0])), as_of=np.array([START + 10**9]))
    place = padded(ancient.offset[:-1], ancient.offset[1:])
    history = histories_at(ancient, place, ancient.as_of)
    assert history.days.min() > 10_000
    assert torch.isfinite(model(history, torch.arange(4)[None])).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"events": 0}, "reward model: events is 0, it must be at least 1"),
        ({"batch_pages": 0}, "reward model: batch_pages is 0"),
        ({"minimum_auc": 0.3}, r"reward model: minimum_auc is 0\.3: use 0\.5"),
        ({"examples": {"positives": 0}}, "positives is 0"),
        ({"soft": 3}, "soft = 3"),
    ],
)
def test_settings_that_cannot_be_are_named(settings: dict[str, object], message: str) -> None:
    recipe = Recipe(name="mine", sections={"reward_model": settings})
    with pytest.raises(ValueError, match=message):
        recipe.part("reward_model", RewardModelConfig)
