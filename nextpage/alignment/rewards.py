"""Rewards as plain functions of a prompt and an item, composed by the recipe.

r = 1[s > τ] · Σ_j w_j · f_j (GenRec Eq 6 with further terms), then an item that was really chosen gets the highest r of
its group (Eq 7). A new term is one function here, its name in TERMS, and a line of YAML.

Every term: (prompts of B histories, item rows int [B, G], judge) → float32 [B, G], about 0 to 1. A row may be −1, which
names no item: what a term says of it is not read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from nextpage.alignment.catalogue import Catalogue
from nextpage.alignment.reward_model import RewardModel, score
from nextpage.interactions.log import BEHAVIOURS
from nextpage.interactions.sequences import Sequences

DAY = 86_400
EXPOSED = BEHAVIOURS.index("exposed")
NEIGHBOURS = 5
"""Of the history's items, as many as make a candidate's neighbourhood."""
NEW_DAYS = 30
"""An item's freshness halves in as many days."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """What the terms look things up in."""

    catalogue: Catalogue
    reward_model: RewardModel


Term = Callable[[Sequences, np.ndarray, Judge], np.ndarray]


def preference(prompts: Sequences, items: np.ndarray, judge: Judge) -> np.ndarray:
    """r_pref: how likely the reward model finds it that the user wants the item."""
    return score(judge.reward_model, prompts, items)


def relevance(prompts: Sequences, items: np.ndarray, judge: Judge) -> np.ndarray:
    """s_i: the mean cosine similarity of the item to its NEIGHBOURS nearest chosen events of the history."""
    similarity = np.zeros(items.shape, dtype=np.float32)
    for row, candidates in enumerate(items):
        events = slice(prompts.offset[row], prompts.offset[row + 1])
        history = prompts.item[events][prompts.behaviour[events] > EXPOSED]
        if len(history):
            cosine = judge.catalogue.vectors[candidates] @ judge.catalogue.vectors[history].T
            nearest = min(NEIGHBOURS, len(history))
            similarity[row] = np.partition(cosine, -nearest, axis=1)[:, -nearest:].mean(axis=1)
    return similarity


def diversity(prompts: Sequences, items: np.ndarray, judge: Judge) -> np.ndarray:
    """The share of the group's other items that are of another category."""
    category, real = judge.catalogue.category[items], items >= 0
    another = (category[:, :, None] != category[:, None, :]) & real[:, None, :]
    others = np.maximum(real.sum(axis=1, keepdims=True) - 1, 1)
    share: np.ndarray = (another.sum(axis=2) / others).astype(np.float32)
    return share


def value(prompts: Sequences, items: np.ndarray, judge: Judge) -> np.ndarray:
    """Business value: the percentile of the item's price."""
    percentile: np.ndarray = judge.catalogue.price[items]
    return percentile


def freshness(prompts: Sequences, items: np.ndarray, judge: Judge) -> np.ndarray:
    """1 for an item first seen when the page was asked for, halved every NEW_DAYS days of its age."""
    age = np.maximum(prompts.as_of[:, None] - judge.catalogue.first_seen[items], 0) / DAY
    fresh: np.ndarray = np.exp2(-age / NEW_DAYS).astype(np.float32)
    return fresh


TERMS: dict[str, Term] = {term.__name__: term for term in (preference, relevance, diversity, value, freshness)}


@dataclass(frozen=True, kw_only=True)
class RewardsConfig:
    """`terms`: name → weight, none negative: else an item could earn less than codes that name none. `gate`: τ, the
    relevance that an item must exceed to earn anything (None: no gate). `anchored`: what was really chosen gets the
    highest reward of its group."""

    terms: dict[str, float] = field(default_factory=lambda: {"preference": 1.0})
    gate: float | None = 0.3
    anchored: bool = True

    def __post_init__(self) -> None:
        unknown = set(self.terms) - set(TERMS)
        if unknown or not self.terms:
            raise ValueError(f"reward terms {sorted(unknown)} are unknown: use one or more of {', '.join(TERMS)}")
        for name, weight in self.terms.items():
            if not isinstance(weight, int | float) or not weight >= 0:
                raise ValueError(f"reward term {name!r} weighs {weight!r}: use a number that is not negative")


def rewards(
    prompts: Sequences, items: np.ndarray, positives: Sequence[np.ndarray], judge: Judge, config: RewardsConfig
) -> np.ndarray:
    """Rewards float32 [B, G] of items int [B, G]; a row −1, which names no item, earns 0. `positives`: D+ of each
    prompt."""
    reward = np.zeros(items.shape, dtype=np.float32)
    for name, weight in config.terms.items():
        reward += weight * TERMS[name](prompts, items, judge)
    if config.gate is not None:
        reward *= relevance(prompts, items, judge) > config.gate
    reward[items < 0] = 0.0
    if config.anchored:
        chosen = np.stack([np.isin(row, own) for row, own in zip(items, positives, strict=True)])
        reward = np.where(chosen, reward.max(axis=1, keepdims=True), reward)
    return reward
