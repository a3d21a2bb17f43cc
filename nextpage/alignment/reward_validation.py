"""Whether a reward model may guide RL: how well it tells apart, and foretells, what happened on held-out pages."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from nextpage.alignment.reward_examples import Pages, histories_at, padded, pages_to_learn
from nextpage.alignment.reward_model import EXPOSED, RewardModel, RewardModelConfig
from nextpage.interactions.histories import read_histories, split_of_events
from nextpage.interactions.log import Dataset
from nextpage.interactions.sequences import Sequences
from nextpage.interactions.splits import SPLITS

BINS = 10
PAGES_AT_ONCE = 64
PROPOSED = 25
"""How many of the user's own items, and how many popular ones, are candidates for a page."""


@dataclass(frozen=True, kw_only=True)
class Bin:
    """A tenth of the candidates, by reward."""

    candidates: int
    foretold: float  # mean reward
    observed: float  # mean label


@dataclass(frozen=True, kw_only=True)
class RewardQuality:
    """Rewards of what could be proposed for held-out pages, beside what was there. NaN where nothing can be told.

    `auc`: the chance that an item with a label above zero has a higher reward than one without; `own_auc`: among items
    of the user's own history; `user_auc`: the mean of each user's, weighted by candidates, over users with both kinds.
    `calibration_error`: the mean |foretold − observed| over the bins; `ratio`: Σ foretold / Σ observed.
    """

    pages: int
    users: int
    candidates: int
    auc: float
    user_auc: float
    own_auc: float
    calibration_error: float
    ratio: float
    bins: tuple[Bin, ...]  # by reward, lowest first


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
    model: RewardModel, held_out: Sequences, *, pages: int = 2_000, seed: int = 0
) -> RewardQuality:
    """Judge the pages from `target_from` on that have a history, a sample of at most `pages` of them.

    The candidates are the PROPOSED most frequent items of the history and the PROPOSED most popular others: about what
    a policy proposes, and chosen without a look at the page. Raises ValueError where there is no page.
    """
    config, device = model.config, model.category.device
    judged = pages_to_learn(held_out, config.examples.labels)
    judged = judged.take(np.flatnonzero(judged.before > judged.history))
    judged = judged.take(np.sort(np.random.default_rng(seed).permutation(len(judged))[:pages]))
    if not len(judged):
        raise ValueError("no held-out page has a history before it: is the validation split empty?")
    popular = np.argsort(-model.taken[-1].cpu().numpy(), kind="stable")[: 2 * PROPOSED]
    parts = []
    for start in range(0, len(judged), PAGES_AT_ONCE):
        some = judged.take(np.arange(start, min(start + PAGES_AT_ONCE, len(judged))))
        place = padded(some.history, some.before, config.events)
        candidate, own = _proposals(held_out, place, popular)
        history = histories_at(held_out, place, some.time).to(device)
        reward = model(history, torch.from_numpy(candidate).to(device)).sigmoid().cpu().numpy()
        parts.append((reward, _labels(some, candidate, config.examples.labels), own, candidate >= 0))
    rewards, labels, owns, real = (np.concatenate(column) for column in zip(*parts, strict=True))
    users = np.broadcast_to(judged.history[:, None], real.shape)
    return quality(rewards[real], labels[real], owns[real], users[real], pages=len(judged))


def quality(reward: np.ndarray, label: np.ndarray, own: np.ndarray, user: np.ndarray, *, pages: int) -> RewardQuality:
    """The figures of N candidates: reward and label float [N], own bool [N], user int [N]."""
    good, bins = label > 0, calibration(reward, label)
    error = sum(part.candidates * abs(part.foretold - part.observed) for part in bins) / len(label)
    return RewardQuality(
        pages=pages,
        users=len(np.unique(user)),
        candidates=len(label),
        auc=auc(reward, good),
        user_auc=user_auc(reward, good, user),
        own_auc=auc(reward[own], good[own]),
        calibration_error=error,
        ratio=float(reward.sum() / label.sum()) if good.any() else float("nan"),
        bins=bins,
    )


def refusal(quality: RewardQuality, config: RewardModelConfig) -> str | None:
    """Why RL may not start, in a sentence; None if it may."""
    if quality.auc >= config.minimum_auc:
        return None
    return (
        f"the reward model's AUC on {quality.pages} held-out pages is {quality.auc:.3f}, below minimum_auc "
        f"{config.minimum_auc}, so RL would learn its errors: train it longer (reward_model.loop.steps), or lower the "
        "bound with a reason"
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


def calibration(reward: np.ndarray, label: np.ndarray) -> tuple[Bin, ...]:
    """BINS bins of equal size, lowest rewards first; fewer where there are fewer candidates."""
    parts = np.array_split(np.argsort(reward, kind="stable"), min(BINS, len(reward)))
    return tuple(
        Bin(candidates=len(part), foretold=float(reward[part].mean()), observed=float(label[part].mean()))
        for part in parts
    )


def _proposals(log: Sequences, place: np.ndarray, popular: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Candidates for the histories at `place` int [R, N], and which are the user's own: int64 and bool [R, G]."""
    candidate = np.full((len(place), 2 * PROPOSED), -1, dtype=np.int64)
    own = np.zeros(candidate.shape, dtype=bool)
    for row, events in enumerate(place):
        events = events[events >= 0]
        item, times = np.unique(log.item[events[log.behaviour[events] > EXPOSED]], return_counts=True)
        frequent = item[np.argsort(-times, kind="stable")[:PROPOSED]]
        others = popular[~np.isin(popular, item)][:PROPOSED]
        candidate[row, : len(frequent) + len(others)] = np.concatenate([frequent, others])
        own[row, : len(frequent)] = True
    return candidate, own


def _labels(pages: Pages, candidate: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What the candidates int [R, G] were on the pages, 0 where they were not there: float32 [R, G]."""
    log, shown = pages.sequences, padded(pages.start, pages.stop)
    item, label = np.where(shown >= 0, log.item[shown], -2), labels[log.behaviour[shown]]
    found: np.ndarray = ((candidate[:, :, None] == item[:, None, :]) * label[:, None, :]).max(axis=2)
    return found
