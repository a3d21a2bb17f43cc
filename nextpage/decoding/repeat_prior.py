"""A prior for repeats: what a user ordered often and lately, mixed with what the model generates.

A part of its own in the recipe, not of the model: evaluation shows the model with it and without. P(i) = (1 − λ)
P_model(i) + λ P_own(i), P_own(i) ∝ Σ over the user's orders of i of 2^(−age / half-life).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nextpage.decoding.filters import ItemFilter
from nextpage.interactions.log import BEHAVIOURS
from nextpage.interactions.sequences import Sequences

DAY = 86_400
ORDERED = BEHAVIOURS.index("ordered")


@dataclass(frozen=True, kw_only=True)
class RepeatPriorConfig:
    """`weight` is λ: 0 leaves the model alone."""

    weight: float = 0.5
    half_life_days: float = 60.0

    def __post_init__(self) -> None:
        if not 0 <= self.weight < 1:
            raise ValueError(f"the repeat prior's weight is {self.weight}: use a share from 0 up to below 1")
        if self.half_life_days <= 0:
            raise ValueError(f"the repeat prior's half_life_days is {self.half_life_days}: use a positive number")


def mix_in_repeats(
    rows: np.ndarray,
    log_prob: np.ndarray,
    history: Sequences,
    config: RepeatPriorConfig,
    allowed: Sequence[ItemFilter | None] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k best of generated and own items. rows int [S, k] (−1: none), log_prob [S, k], best first → the same shape.

    `history` holds the S users' events, `allowed` a filter each. An own item that the search did not return has the
    model probability 0, so its share is at most that of the last beam too low.
    """
    if config.weight == 0:
        return rows, log_prob
    k = rows.shape[1]
    mixed_rows, mixed = np.full_like(rows, -1), np.full_like(log_prob, -np.inf)
    for s in range(len(rows)):
        own, own_share = own_recency(history, s, config.half_life_days)
        if allowed is not None and (only := allowed[s]) is not None:
            held = only.holds(own)
            own, own_share = own[held], own_share[held]
        found = rows[s] >= 0
        items = np.concatenate([rows[s, found], own])
        shares = np.concatenate([(1 - config.weight) * np.exp(log_prob[s, found]), config.weight * own_share])
        unique, place = np.unique(items, return_inverse=True)
        total = np.bincount(place, weights=shares, minlength=len(unique))
        best = np.lexsort((unique, -total))[:k]
        mixed_rows[s, : len(best)] = unique[best]
        with np.errstate(divide="ignore"):
            mixed[s, : len(best)] = np.log(total[best])
    return mixed_rows, mixed


def own_recency(history: Sequences, s: int, half_life_days: float) -> tuple[np.ndarray, np.ndarray]:
    """The distinct items that history s ordered, and their shares (which sum to 1): rows int [n], float [n]."""
    events = slice(history.offset[s], history.offset[s + 1])
    ordered = history.behaviour[events] == ORDERED
    time = history.time[events][ordered]
    age = (time.max(initial=0) - time) / DAY  # since the last order, which changes no share and cannot round all to 0
    items, place = np.unique(history.item[events][ordered], return_inverse=True)
    weight = np.bincount(place, weights=np.exp2(-age / half_life_days), minlength=len(items))
    return items, weight / max(weight.sum(), 1.0)
