"""Counting baselines: what no model is worth its cost without beating.

All read whole histories of the events that are to be predicted (of a log with exposures, give the orders). An item's
place is by its score, ties by popularity over all of training. Constants were chosen on the validation weeks of The
Complete Journey (`benchmarks/baselines.py --split validation`), never on its test weeks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from nextpage.evaluation.counts import DAY, Counts, PairCounts, page_bounds
from nextpage.evaluation.metrics import Ranker
from nextpage.evaluation.truth import history_of_event
from nextpage.interactions.sequences import Sequences

Scorer = Callable[[Sequences], np.ndarray]
"""Prompts of S users → a score for every item, float64 [S, I]."""

PROMPTS_AT_ONCE = 64
"""Rows of scores held at a time: 14 MB for 27,000 items."""

TIE_BREAK = 1e-6
"""What popularity adds to a score: less than any difference of counts."""


@dataclass(frozen=True, kw_only=True)
class BaselineConfig:
    """`recent_days`: the window of recent popularity. `prompt_items`: how much of a prompt "own frequency" and the
    whole-prompt bigram read. `half_life_days`: when a purchase of one's own counts half. `transition_weight`: what
    the bigram adds to own recency."""

    recent_days: int = 56
    prompt_items: int = 128
    half_life_days: float = 90.0
    transition_weight: float = 0.15


TITLES = {
    "popularity": "popularity, all of training",
    "recent_popularity": "popularity, last 8 weeks",
    "cooccurrence": "co-occurrence with the last page",
    "bigram_last_page": "directed bigram, last page",
    "bigram_prompt": "directed bigram, last 128 items",
    "own_frequency": "the user's own frequency, last 128 items",
    "own_recency": "own recency-weighted frequency, whole history, then popularity",
    "own_recency_bigram": "own recency + bigram over 128 items",
}


def scorers(counts: Counts, config: BaselineConfig) -> dict[str, Scorer]:
    """The baselines by name (see TITLES), weakest kind first."""
    popular = counts.popularity
    follows, beside = counts.transitions, counts.cooccurrence

    def last(prompts: Sequences) -> Sequences:
        return prompts.last(config.prompt_items)

    def recency(prompts: Sequences) -> np.ndarray:
        return own_frequency(prompts, len(popular), config.half_life_days)

    return {
        "popularity": lambda prompts: np.tile(popular.astype(np.float64), (len(prompts), 1)),
        "recent_popularity": lambda prompts: np.tile(counts.recent_popularity.astype(np.float64), (len(prompts), 1)),
        "cooccurrence": lambda prompts: expected(beside, popular, last_page(prompts)),
        "bigram_last_page": lambda prompts: expected(follows, popular, last_page(prompts)),
        "bigram_prompt": lambda prompts: expected(follows, popular, last(prompts)),
        "own_frequency": lambda prompts: own_frequency(last(prompts), len(popular)),
        "own_recency": recency,
        "own_recency_bigram": lambda prompts: (
            recency(prompts) + config.transition_weight * expected(follows, popular, last(prompts))
        ),
    }


def baselines(counts: Counts, config: BaselineConfig, *, unseen: bool = False) -> dict[str, Ranker]:
    """The baselines as rankers; with `unseen` they leave out all that the prompt holds."""
    return {name: partial(_rank, score, counts.popularity, unseen) for name, score in scorers(counts, config).items()}


def expected(pairs: PairCounts, popularity: np.ndarray, prompts: Sequences) -> np.ndarray:
    """score(b) = Σ over prompt events a of count(a, b) / popularity(a), float64 [S, I].

    That is the number of b to expect from the events of the prompt if each spoke for itself.
    """
    weight = own_frequency(prompts, len(popularity)) / np.maximum(popularity, 1)
    scores: np.ndarray = np.zeros_like(weight)
    for prompt, source in zip(*np.nonzero(weight), strict=True):
        row = slice(pairs.offset[source], pairs.offset[source + 1])  # holds an item once, so += adds all of it
        scores[prompt, pairs.item[row]] += weight[prompt, source] * pairs.count[row]
    return scores


def own_frequency(prompts: Sequences, items: int, half_life_days: float | None = None) -> np.ndarray:
    """How often the user took each item, float64 [S, I]; an event of age t counts 2^(−t / half life)."""
    history = history_of_event(prompts)
    weight = np.ones(len(prompts.item))
    if half_life_days is not None:
        age = np.maximum(prompts.as_of[history] - prompts.time, 0) / DAY
        weight = 0.5 ** (age / half_life_days)
    return _dense(history * items + prompts.item, weight, len(prompts), items)


def last_page(prompts: Sequences) -> Sequences:
    """The prompts cut to their last page."""
    start, end = page_bounds(prompts)
    ends_history = np.isin(end, prompts.offset)
    return prompts.select(np.repeat(ends_history, end - start))


def _rank(score: Scorer, popularity: np.ndarray, unseen: bool, prompts: Sequences, k: int) -> np.ndarray:
    """The k best items of each prompt, int32 [S, k]; a Ranker once the first three are bound."""
    tie_break = TIE_BREAK * popularity / max(popularity.sum(), 1)
    ranking = np.full((len(prompts), k), -1, dtype=np.int32)
    for first in range(0, len(prompts), PROMPTS_AT_ONCE):
        batch = prompts.take(np.arange(first, min(first + PROMPTS_AT_ONCE, len(prompts))))
        scores = score(batch) + tie_break
        if unseen:
            scores[history_of_event(batch), batch.item] = -np.inf
        best = torch.from_numpy(scores).topk(min(k, len(popularity)), dim=1)
        rows = np.where(np.isfinite(best.values.numpy()), best.indices.numpy(), -1)
        ranking[first : first + len(batch), : rows.shape[1]] = rows
    return ranking


def _dense(cell: np.ndarray, weight: np.ndarray, rows: int, items: int) -> np.ndarray:
    return np.bincount(cell, weight, minlength=rows * items).reshape(rows, items)
