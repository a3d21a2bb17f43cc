"""The mathematics of GRPO, GRPO-SR and GBPO."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from nextpage.alignment.log_probs import answer_log_probs
from nextpage.alignment.on_policy import OnPolicy
from nextpage.alignment.pages import Asked
from nextpage.alignment.policy import PolicyConfig, PolicyGradient, Rollouts, advantages
from nextpage.models.decoder import CausalDecoder
from tests.alignment.small import generation, pages, policy

GROUP = 6
GRPO = PolicyConfig(group=GROUP, nll_weight=0.0)


def _asked(prompts: int = 4) -> Asked:
    return next(pages().walk(prompts, start=0, rank=0, processes=1))


def _batch(model: CausalDecoder, config: PolicyConfig, reward: torch.Tensor | None = None) -> Rollouts:
    """Rollouts of the model, with random rewards where none are given."""
    asked, by = _asked(), generation(model)
    codes = by.draw(asked.prompts, config.group, (0,), constrained=False).codes
    source = OnPolicy(
        generation=by,
        pages=pages(),
        judge=None,
        rewards=None,
        config=config,
        prompts=4,
        seed=0,  # type: ignore[arg-type]
    )
    if reward is None:
        reward = torch.rand(len(asked), config.group, generator=torch.Generator().manual_seed(1))
    return source.learn_from(asked, codes, reward)


def _gradient(model: CausalDecoder, loss: torch.Tensor) -> torch.Tensor:
    wanted = [weight for weight in model.parameters() if weight.requires_grad]
    found = torch.autograd.grad(loss, wanted, allow_unused=True)
    return torch.cat([(torch.zeros_like(w) if g is None else g).flatten() for w, g in zip(wanted, found, strict=True)])


def test_the_gradient_of_grpo_is_the_score_function_gradient_with_the_same_advantages() -> None:
    model = policy()
    batch = _batch(model, GRPO)
    losses, weights = PolicyGradient(model, GRPO)(batch)
    log_prob = answer_log_probs(model, batch.packed)
    levels = log_prob.shape[1]
    score_function = -(batch.advantage[:, None] * log_prob).sum() / (GROUP * levels)
    assert torch.allclose(_gradient(model, losses.sum()), _gradient(model, score_function), atol=1e-6)
    assert torch.equal(weights, torch.ones(4))
    # On the policy a ratio is 1, so a group's loss is minus its mean advantage: zero.
    assert losses.detach().abs().max() < 1e-6


def test_grpo_sr_is_grpo_plus_the_negative_log_likelihood_of_the_positives() -> None:
    model, anchored = policy(), replace(GRPO, nll_weight=0.3)
    plain, with_positives = _batch(model, GRPO), _batch(model, anchored)
    positives = ~with_positives.is_rollout
    assert int(positives.sum()) == sum(len(own) for own in _asked().positives)
    log_prob = answer_log_probs(model, with_positives.packed)[positives].sum()
    both = PolicyGradient(model, anchored)(with_positives)[0].sum()
    alone = PolicyGradient(model, GRPO)(plain)[0].sum()
    assert torch.allclose(_gradient(model, both), _gradient(model, alone - 0.3 * log_prob), atol=1e-5)
    assert both.item() == pytest.approx((alone - 0.3 * log_prob).item(), abs=1e-4)


def test_without_alpha_grpo_sr_is_grpo() -> None:
    model = policy()
    zero, plain = replace(GRPO, nll_weight=0.0), GRPO
    one, other = _batch(model, zero), _batch(model, plain)
    assert torch.equal(one.packed.target, other.packed.target)
    assert torch.equal(PolicyGradient(model, zero)(one)[0], PolicyGradient(model, plain)(other)[0])


def test_rewards_that_are_alike_give_no_advantage_and_no_gradient() -> None:
    model = policy()
    reward = torch.full((4, GROUP), 0.7)
    assert torch.equal(advantages(reward), torch.zeros(4, GROUP))
    batch = _batch(model, GRPO, reward)
    losses, _ = PolicyGradient(model, GRPO)(batch)
    gradient = _gradient(model, losses.sum())
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() == 0


def test_advantages_are_centred_and_of_unit_deviation_in_each_group() -> None:
    reward = torch.rand(5, 8, generator=torch.Generator().manual_seed(0)) * 1e-3
    found = advantages(reward)
    assert torch.allclose(found.mean(dim=1), torch.zeros(5), atol=1e-4)
    assert torch.allclose(found.square().mean(dim=1), torch.ones(5), atol=1e-3)
    assert torch.equal(found.argsort(dim=1), reward.argsort(dim=1))


def test_over_the_batch_groups_that_differ_more_weigh_more() -> None:
    reward = torch.tensor([[0.0, 1.0], [0.0, 0.1], [0.5, 0.5]])
    found = advantages(reward, "batch")
    assert torch.allclose(found.sum(dim=1), torch.zeros(3), atol=1e-6)
    assert found[0, 1].item() == pytest.approx(10 * found[1, 1].item(), rel=1e-5)
    assert found.square().mean().item() == pytest.approx(1.0, rel=1e-5)
    assert torch.equal(found[2], torch.zeros(2))


def test_a_better_answer_becomes_more_likely_and_a_worse_one_less() -> None:
    model = policy()
    batch = _batch(model, GRPO)
    before = answer_log_probs(model, batch.packed).sum(dim=1).detach()
    step = torch.optim.SGD(model.parameters(), lr=1e-2)
    PolicyGradient(model, GRPO)(batch)[0].sum().backward()  # type: ignore[no-untyped-call]
    step.step()
    after = answer_log_probs(model, batch.packed).sum(dim=1).detach()
    assert ((after - before) * batch.advantage).sum() > 0


def test_gbpo_leaves_better_answers_alone_and_bounds_the_pull_of_unlikely_worse_ones() -> None:
    model, bounded = policy(), replace(GRPO, bound="gbpo")
    batch = _batch(model, GRPO)
    log_prob = answer_log_probs(model, batch.packed)
    likely = log_prob.detach().exp()
    # The gradient of π/max(π, 1 − π) in log π is π/max(π, 1 − π), written out by hand.
    factor = torch.where(batch.advantage[:, None] < 0, likely / torch.maximum(likely, 1 - likely), 1.0)
    expected = -(factor * batch.advantage[:, None] * log_prob).sum() / (GROUP * log_prob.shape[1])
    losses, _ = PolicyGradient(model, bounded)(batch)
    assert torch.allclose(_gradient(model, losses.sum()), _gradient(model, expected), atol=1e-6)
    worse = batch.advantage < 0
    assert (factor[worse] < 1).any()


def test_the_order_of_prompts_changes_no_loss() -> None:
    model, config = policy(), replace(GRPO, nll_weight=0.1)
    asked, by = _asked(), generation(model)
    codes = by.draw(asked.prompts, GROUP, (0,), constrained=False).codes
    reward = torch.rand(4, GROUP, generator=torch.Generator().manual_seed(2))
    source = OnPolicy(
        generation=by,
        pages=pages(),
        judge=None,
        rewards=None,
        config=config,
        prompts=4,
        seed=0,  # type: ignore[arg-type]
    )
    turned = np.array([2, 0, 3, 1])
    again = Asked(prompts=asked.prompts.take(turned), positives=[asked.positives[row] for row in turned])
    straight = PolicyGradient(model, config)(source.learn_from(asked, codes, reward))[0]
    other = PolicyGradient(model, config)(source.learn_from(again, codes[turned], reward[turned]))[0]
    assert torch.allclose(straight[turned], other, atol=1e-5)


def test_pages_are_walked_alike_whatever_the_number_of_processes_and_from_any_step() -> None:
    whole = list(islice(pages().walk(6, start=0, rank=0, processes=1), 9))
    parts = [list(islice(pages().walk(6, start=0, rank=rank, processes=2), 9)) for rank in range(2)]
    for step, asked in enumerate(whole):
        for rank in range(2):
            assert parts[rank][step].prompts.as_of.tolist() == asked.prompts.as_of[rank::2].tolist()
    later = next(pages().walk(6, start=7, rank=0, processes=1))
    assert later.prompts.as_of.tolist() == whole[7].prompts.as_of.tolist()


def test_a_prompt_holds_only_what_came_before_and_positives_are_what_was_chosen_then() -> None:
    source = pages()
    for asked in islice(source.walk(5, start=0, rank=0, processes=1), 8):
        for row, own in enumerate(asked.positives):
            user = int(np.flatnonzero(source.sequences.user_id == asked.prompts.user_id[row])[0])
            events = slice(source.sequences.offset[user], source.sequences.offset[user + 1])
            time, item = source.sequences.time[events], source.sequences.item[events]
            behaviour, moment = source.sequences.behaviour[events], asked.prompts.as_of[row]
            history = slice(asked.prompts.offset[row], asked.prompts.offset[row + 1])
            assert asked.prompts.item[history].tolist() == item[time < moment].tolist()
            assert own.tolist() == sorted(set(item[(time == moment) & (behaviour > 0)].tolist()))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"group": 1}, "group is 1"),
        ({"nll_weight": -0.1}, "nll_weight is -0.1"),
        ({"bound": "ppo"}, "bound 'ppo'"),
        ({"rollouts": "greedy"}, "rollouts 'greedy'"),
        ({"spread": "all"}, "spread 'all'"),
        ({"entropy": -1.0}, "entropy is -1"),
    ],
)
def test_a_wrong_setting_is_named(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        replace(GRPO, **changes)  # type: ignore[arg-type]
