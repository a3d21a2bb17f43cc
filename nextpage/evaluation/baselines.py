"""Counting baselines: what no model is worth its cost without beating.

All read whole histories of the events that are to be predicted (of a log with exposures, give the orders). An item's
place is by its score, ties by popularity over all of training. Half life and bigram weight are the best on all
validation baskets of The Complete Journey (`benchmarks/baselines.py --split validation --requests 0`). Variants of the
scores (raw counts, shares, cosine; half lives of 30 to 120 days) were also looked at on a test sample, to see whether
earlier figures come out again; where that and validation differed, as for the half life, validation decided.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nextpage.evaluation.counts import DAY, Counts, PairCounts, page_bounds
from nextpage.evaluation.truth import history_of_event
from nextpage.interactions.sequences import Sequences

TIE_BREAK = 1e-6
"""What popularity adds to a score: less than any difference of counts."""


@dataclass(frozen=True, kw_only=True)
class BaselineConfig:
    """`recent_days`: the window of recent popularity. `prompt_items`: how much of a prompt "own frequency" and the
    whole-prompt bigram read. `half_life_days`: when a purchase of one's own counts half. `transition_weight`: what
    the bigram adds to own recency."""

    recent_days: int = 56
    prompt_items: int = 128
    half_life_days: float = 60.0
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


def scores(counts: Counts, config: BaselineConfig, prompts: Sequences) -> Iterator[tuple[str, np.ndarray]]:
    """Each baseline's name (see TITLES) and its score of every item, float64 [S, I].

    One after another, so that few of the large arrays are held, and in one place, so that what two share is counted
    once.
    """
    popular, page, recent = counts.popularity, last_page(prompts), prompts.last(config.prompt_items)
    yield "popularity", np.tile(popular.astype(np.float64), (len(prompts), 1))
    yield "recent_popularity", np.tile(counts.recent_popularity.astype(np.float64), (len(prompts), 1))
    yield "cooccurrence", expected(counts.cooccurrence, popular, page)
    yield "bigram_last_page", expected(counts.transitions, popular, page)
    following = expected(counts.transitions, popular, recent)
    yield "bigram_prompt", following
    yield "own_frequency", own_frequency(recent, len(popular))
    recency = own_frequency(prompts, len(popular), config.half_life_days)
    yield "own_recency", recency
    yield "own_recency_bigram", recency + config.transition_weight * following


def rank_baselines(
    counts: Counts, config: BaselineConfig, prompts: Sequences, k: int
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Each baseline's name, its ranking, and its ranking of the items that the prompt lacks: int32 [S, k] each.

    As a `Ranker` gives them. Memory is that of a few arrays of scores: rank some tens of prompts at a time.
    """
    tie_break = TIE_BREAK * counts.popularity / max(counts.popularity.sum(), 1)
    for name, score in scores(counts, config, prompts):
        untied = score + tie_break
        ranking = best(untied, k)
        untied[history_of_event(prompts), prompts.item] = -np.inf
        yield name, ranking, best(untied, k)


def best(score: np.ndarray, k: int) -> np.ndarray:
    """The k best items of each row of [S, I], best first; −1 where fewer are above −inf; int32 [S, k]."""
    k_there = min(k, score.shape[1])
    top = np.argpartition(-score, k_there - 1, axis=1)[:, :k_there]
    found = np.take_along_axis(score, top, axis=1)
    order = np.lexsort((top, -found), axis=1)
    rows = np.take_along_axis(np.where(np.isfinite(found), top, -1), order, axis=1)
    return np.pad(rows, ((0, 0), (0, k - k_there)), constant_values=-1).astype(np.int32)


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


def _dense(cell: np.ndarray, weight: np.ndarray, rows: int, items: int) -> np.ndarray:
    return np.bincount(cell, weight, minlength=rows * items).reshape(rows, items)
