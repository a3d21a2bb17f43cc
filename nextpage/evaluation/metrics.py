"""Ranking metrics, one value a request, over the full catalogue and on items (never on their codes).

For a request with truth Y (a set of items) and a ranking i_1, i_2, …, best first:

- HR@K     = 1 if any of i_1 … i_K is in Y, else 0;
- Recall@K = |{i_1 … i_K} ∩ Y| / |Y|;
- NDCG@K   = Σ_{j ≤ K, i_j ∈ Y} 1/log2(j + 1), over the same sum for a ranking that begins with all of Y:
             Σ_{j ≤ min(K, |Y|)} 1/log2(j + 1);
- MRR@K    = 1/j of the first i_j in Y with j ≤ K, else 0.

A request without truth has no value: NaN, which means leave out.

"Items new to the user": Y keeps only the items that the user's whole history lacks, and the ranking has the items of
that history taken out. A request whose truth is all repeats has no value there.
"""

from collections.abc import Callable

import numpy as np

from nextpage.evaluation.truth import Truth, among, history_of_event
from nextpage.interactions.sequences import Sequences

CUTOFFS = (1, 5, 10, 50)
DEPTH = max(CUTOFFS)

Ranker = Callable[[Sequences, int], np.ndarray]
"""Prompts of S users, k → item rows int32 [S, k], best first, each at most once, −1 where there are fewer."""


def hits(ranking: np.ndarray, truth: Truth) -> np.ndarray:
    """Which ranked items (int [R, K]) are in the truth of their request, bool [R, K]."""
    if len(ranking) != len(truth):
        raise ValueError(f"{len(ranking)} rankings for {len(truth)} requests: give one row a request, in order")
    request = np.arange(len(ranking))[:, None]
    return among(request, ranking, truth.request, truth.item) & (ranking >= 0)


def ranking_metrics(ranking: np.ndarray, truth: Truth, cutoffs: tuple[int, ...] = CUTOFFS) -> dict[str, np.ndarray]:
    """HR, NDCG, Recall and MRR of each request: "HR@10" → float64 [R], NaN where there is no truth."""
    hit = hits(ranking, truth)
    missing = max(0, max(cutoffs) - hit.shape[1])
    hit = np.pad(hit, ((0, 0), (0, missing)))
    discount = 1 / np.log2(np.arange(hit.shape[1]) + 2)
    ideal = np.concatenate([[0.0], np.cumsum(discount)])
    found = np.cumsum(hit, axis=1)
    gain = np.cumsum(hit * discount, axis=1)
    first = np.where(hit.any(axis=1), hit.argmax(axis=1), hit.shape[1])
    size = np.where(truth.size > 0, truth.size, np.nan)
    metrics: dict[str, np.ndarray] = {}
    for cutoff in cutoffs:
        best = ideal[np.minimum(truth.size, cutoff)]
        metrics[f"HR@{cutoff}"] = np.where(truth.size > 0, found[:, cutoff - 1] > 0, np.nan)
        metrics[f"NDCG@{cutoff}"] = gain[:, cutoff - 1] / np.where(truth.size > 0, best, np.nan)
        metrics[f"Recall@{cutoff}"] = found[:, cutoff - 1] / size
        metrics[f"MRR@{cutoff}"] = np.where(first < cutoff, 1 / (first + 1), 0.0) + 0 * size
    return metrics


def without_seen(ranking: np.ndarray, histories: Sequences) -> np.ndarray:
    """The ranking with each user's history taken out and the rest moved up, −1 at the end; int32 [R, K]."""
    request = np.arange(len(ranking))[:, None]
    seen = among(request, ranking, history_of_event(histories), histories.item)
    unseen_first = np.argsort(seen | (ranking < 0), axis=1, kind="stable")
    kept = np.where(seen, -1, ranking)
    return np.take_along_axis(kept, unseen_first, axis=1).astype(np.int32)


def check_ranking(ranking: np.ndarray, requests: int, k: int, items: int) -> None:
    """Raise ValueError unless `ranking` is what a Ranker gives for so many prompts and catalogue items."""
    if ranking.shape != (requests, k):
        raise ValueError(f"the ranking has shape {ranking.shape}, expected ({requests}, {k}): one row a prompt")
    if ranking.size and (ranking.min() < -1 or ranking.max() >= items):
        raise ValueError(
            f"the ranking names item rows {ranking.min()} to {ranking.max()}, the catalogue has 0 to {items - 1}: "
            "was it made with another release's table?"
        )
    ordered = np.sort(ranking, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        row, place = np.argwhere(twice)[0]
        raise ValueError(f"the ranking of request {row} names item row {ordered[row, place]} twice: rank items once")
