"""Whether a reward model may guide RL: how well it tells apart, and foretells, what happened on held-out pages."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from nextpage.alignment.reward_examples import Draws, pages_to_learn
from nextpage.alignment.reward_items import RewardItems
from nextpage.alignment.reward_model import RewardModel, RewardModelConfig
from nextpage.interactions.histories import read_histories, split_of_events
from nextpage.interactions.log import Dataset
from nextpage.interactions.sequences import Sequences
from nextpage.interactions.splits import SPLITS

BINS = 10
PAGES_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The candidates whose foretold label lies in [low, high)."""

    low: float
    high: float
    candidates: int
    foretold: float  # mean
    observed: float  # mean


@dataclass(frozen=True, kw_only=True)
class RewardQuality:
    """Of candidates drawn from held-out pages as in training. NaN where there is nothing to measure.

    `auc`: the chance that the reward of an item with a label above zero exceeds that of one with zero; `own_auc`: among
    items of the user's own history; `user_auc`: within each user who has both, weighted by candidates. Calibration is
    of the expected label under the draw: `calibration_error` is the mean |foretold − observed| over the bins, by
    candidates; `ratio` is Σ foretold / Σ observed.
    """

    pages: int
    users: int
    candidates: int
    auc: float
    user_auc: float
    own_auc: float
    calibration_error: float
    ratio: float
    bins: tuple[Bin, ...]


def held_out_histories(dataset: Dataset, item_ids: list[str], split: str = "validation") -> Sequences:
    """Histories up to the end of `split`, whose pages of `split` are to be judged."""
    histories, part = read_histories(dataset, item_ids), split_of_events(dataset, item_ids)
    wanted = SPLITS.index(split)
    owner = np.repeat(np.arange(len(histories)), np.diff(histories.offset))
    begins = histories.as_of.copy()
    np.minimum.at(begins, owner[part == wanted], histories.time[part == wanted])
    return replace(histories, target_from=begins).select(part <= wanted)


@torch.inference_mode()
def measure_reward_model(
    model: RewardModel, items: RewardItems, held_out: Sequences, *, pages: int = 2_000, seed: int = 0
) -> RewardQuality:
    """Judge the pages from `target_from` on, a sample of at most `pages` of them."""
    config, draw = model.config, np.random.default_rng(seed)
    judged = pages_to_learn(held_out, config.examples.labels)
    judged = judged.take(np.sort(draw.permutation(len(judged))[:pages]))
    draws, parts = Draws(items, config.examples), []
    users = np.searchsorted(held_out.offset, judged.start, side="right") - 1
    for start in range(0, len(judged), PAGES_AT_ONCE):
        rows = np.arange(start, min(start + PAGES_AT_ONCE, len(judged)))
        batch = draws.examples(judged.take(rows), draw, config.events).to(model.category.device)
        logits = model(batch.history, batch.candidate)
        own = (batch.candidate[:, :, None] == batch.history.item[:, None, :]).any(dim=2)
        user = torch.from_numpy(users[rows]).to(logits.device)[:, None].expand(logits.shape)
        columns = (logits, (logits - batch.expected.log()).sigmoid(), batch.label, own, user)
        parts.append([column[batch.candidate >= 0].cpu().numpy() for column in columns])
    reward, foretold, label, is_own, owner = (np.concatenate(column) for column in zip(*parts, strict=True))
    good, bins = label > 0, calibration(foretold, label)
    return RewardQuality(
        pages=len(judged),
        users=len(np.unique(users)),
        candidates=len(label),
        auc=auc(reward, good),
        user_auc=user_auc(reward, good, owner),
        own_auc=auc(reward[is_own], good[is_own]),
        calibration_error=sum(part.candidates * abs(part.foretold - part.observed) for part in bins) / len(label),
        ratio=float(foretold.sum() / label.sum()),
        bins=bins,
    )


def refusal(quality: RewardQuality, config: RewardModelConfig) -> str | None:
    """Why RL may not start, in a sentence; None if it may."""
    if quality.auc >= config.minimum_auc:
        return None
    return (
        f"the reward model's AUC on {quality.pages} held-out pages is {quality.auc:.3f}, below minimum_auc "
        f"{config.minimum_auc}: RL would learn its errors; train it longer (reward_model.loop.steps), or leave the "
        "model unaligned"
    )


def auc(score: np.ndarray, good: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half; NaN unless both classes are there. score [N], good bool [N]."""
    positives, negatives = int(good.sum()), int((~good).sum())
    if not positives or not negatives:
        return float("nan")
    _, place, size = np.unique(score, return_inverse=True, return_counts=True)
    rank = np.cumsum(size) - (size - 1) / 2  # mean rank of equal scores, from 1
    return float((rank[place][good].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def user_auc(score: np.ndarray, good: np.ndarray, user: np.ndarray) -> float:
    """The mean of each user's AUC, weighted by the user's candidates, over users with both classes."""
    order = np.argsort(user, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(user[order])) + 1)
    aucs = np.array([auc(score[group], good[group]) for group in groups])
    weights = np.array([len(group) for group in groups]) * np.isfinite(aucs)
    return float((np.nan_to_num(aucs) * weights).sum() / weights.sum()) if weights.any() else float("nan")


def calibration(foretold: np.ndarray, label: np.ndarray, bins: int = BINS) -> tuple[Bin, ...]:
    """Bins of equal width over [0, 1] that hold anything."""
    place = np.minimum((foretold * bins).astype(np.int64), bins - 1)
    return tuple(
        Bin(
            low=number / bins,
            high=(number + 1) / bins,
            candidates=int((place == number).sum()),
            foretold=float(foretold[place == number].mean()),
            observed=float(label[place == number].mean()),
        )
        for number in np.unique(place).tolist()
    )
