"""The mathematics of DPO and S-DPO, and how their pairs are made."""

from itertools import islice

import numpy as np
import pytest
import torch

from nextpage.alignment.log_probs import answer_log_probs
from nextpage.alignment.pages import Asked
from nextpage.alignment.pairs import WAYS, Pairs, PreferenceConfig
from nextpage.alignment.preference import Preference, preference_loss, softmax_preference_loss
from nextpage.alignment.rewards import RewardsConfig
from nextpage.models.decoder import CausalDecoder
from tests.alignment.small import generation, judge, pages, policy


def _random(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("beta", [0.05, 1.0])
def test_s_dpo_with_one_rejected_item_has_the_loss_and_the_gradient_of_dpo(beta: float) -> None:
    reference = _random((40, 2), 0)
    one, other = (_random((40, 2), 1).requires_grad_() for _ in range(2))
    several, pair = softmax_preference_loss(one, reference, beta), preference_loss(other, reference, beta)
    assert torch.allclose(several, pair, atol=1e-6)
    several.sum().backward()  # type: ignore[no-untyped-call]
    pair.sum().backward()  # type: ignore[no-untyped-call]
    assert one.grad is not None
    assert other.grad is not None
    assert torch.allclose(one.grad, other.grad, atol=1e-6)


def test_s_dpo_is_the_negative_log_of_the_chosen_items_share() -> None:
    """Eq 12 by another road: the softmax over the chosen and the rejected."""
    log_prob, reference = _random((30, 5), 2), _random((30, 5), 3)
    share = (0.7 * (log_prob - reference)).softmax(dim=1)[:, 0]
    assert torch.allclose(softmax_preference_loss(log_prob, reference, 0.7), -share.log(), atol=1e-9)


def test_before_the_first_step_the_loss_is_that_of_a_guess() -> None:
    model = policy()
    objective = Preference(model, beta=0.5)
    batch = next(_pairs("sampled", model=model, reference=model).walk(start=0, rank=0, processes=1))
    losses, _ = objective(batch)
    assert torch.allclose(losses, torch.full_like(losses, float(np.log(1 + 3))), atol=1e-5)


def test_learning_a_preference_raises_the_chosen_item_above_the_rejected() -> None:
    model = policy()
    source = _pairs("sampled", model=model, reference=policy())
    batch = next(source.walk(start=0, rank=0, processes=1))
    optimizer, objective = torch.optim.Adam(model.parameters(), lr=1e-3), Preference(model, beta=0.5)
    for _ in range(20):
        optimizer.zero_grad()
        objective(batch)[0].mean().backward()
        optimizer.step()
    with torch.no_grad():
        log_prob = answer_log_probs(model, batch.packed).sum(dim=1).view_as(batch.reference_log_prob)
    margin = log_prob - batch.reference_log_prob
    assert (margin[:, :1] > margin[:, 1:]).all()


@pytest.mark.parametrize("way", WAYS)
def test_chosen_and_rejected_differ_and_are_drawn_alike_again(way: str) -> None:
    source = _pairs(way)
    for asked in islice(pages().walk(6, start=0, rank=0, processes=1), 4):
        chosen, rejected = source.choose(asked, (0, 1, 2))
        again = source.choose(asked, (0, 1, 2))
        assert np.array_equal(chosen, again[0])
        assert np.array_equal(rejected, again[1])
        assert rejected.shape == (6, 3)
        assert (chosen[:, None] != rejected).all()
        assert all(len(set(row)) == 3 for row in rejected.tolist())


@pytest.mark.parametrize("way", ["sampled", "self_play"])
def test_a_positive_is_chosen_and_none_is_rejected(way: str) -> None:
    for asked in islice(pages().walk(6, start=0, rank=0, processes=1), 6):
        chosen, rejected = _pairs(way).choose(asked, (3,))
        for row, own in enumerate(asked.positives):
            assert chosen[row] in own
            assert not np.isin(rejected[row], own).any()


def test_self_play_rejects_what_the_policy_draws() -> None:
    asked = next(pages().walk(6, start=0, rank=0, processes=1))
    source = _pairs("self_play")
    drawn = source.generation.draw(asked.prompts, source.config.candidates, (3,), constrained=True).rows
    _, rejected = source.choose(asked, (3,))
    assert all(np.isin(rejected[row], drawn[row]).all() for row in range(6))


def test_reranking_chooses_the_best_of_the_beams_by_reward_and_rejects_the_worst(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nextpage.alignment.pairs.rewards", lambda prompts, items, *_: items.astype(np.float32))
    source, asked = _pairs("rerank"), next(pages().walk(6, start=0, rank=0, processes=1))
    beams = source.generation.beams(asked.prompts, source.config.candidates).rows.numpy()
    chosen, rejected = source.choose(asked, (0,))
    assert chosen.tolist() == beams.max(axis=1).tolist()
    assert np.sort(rejected).tolist() == np.sort(beams)[:, :3].tolist()


def test_where_no_beam_is_better_a_positive_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nextpage.alignment.pairs.rewards", lambda prompts, items, *_: np.ones(items.shape))
    asked: Asked = next(pages().walk(6, start=0, rank=0, processes=1))
    chosen, _ = _pairs("rerank").choose(asked, (0,))
    assert all(item in own for item, own in zip(chosen, asked.positives, strict=True))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"pairs": "best"}, "pairs 'best'"),
        ({"rejected": 0}, "rejected is 0"),
        ({"rejected": 8, "candidates": 8}, "rejected is 8 of 8"),
        ({"beta": 0.0}, r"beta is 0\.0"),
    ],
)
def test_a_wrong_setting_is_named(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        PreferenceConfig(**changes)  # type: ignore[arg-type]


def _pairs(way: str, model: CausalDecoder | None = None, reference: CausalDecoder | None = None) -> Pairs:
    return Pairs(
        generation=generation(model),
        reference=reference or policy(),
        pages=pages(),
        judge=judge(),
        rewards=RewardsConfig(terms={"value": 1.0}, gate=None),
        config=PreferenceConfig(pairs=way, rejected=3, candidates=8),
        prompts=6,
        seed=0,
    )
