"""What a ranking does to the catalogue, whatever its accuracy: coverage, popularity bias, novelty."""

import numpy as np

from nextpage.evaluation.truth import Truth


def beyond_accuracy(ranking: np.ndarray, truth: Truth, popularity: np.ndarray, cutoff: int) -> dict[str, float]:
    """Figures of the first `cutoff` places of a ranking (int [R, K]) under training counts `popularity` (int [I]).

    - coverage@K: share of the catalogue that was recommended to anyone;
    - gini@K: Gini coefficient of how often items were recommended (0: all alike; near 1: a few get all);
    - popularity@K: mean popularity percentile of recommended items (1: the most popular);
    - popularity_bias@K: that, less the mean percentile of the truth (above 0: more popular than what users take);
    - novelty@K: mean self-information −log2 p(item) in bits, p its add-one share of training events
      (Vargas and Castells, 2011).
    """
    top = ranking[:, :cutoff]
    shown = top[top >= 0]
    percentile = popularity_percentile(popularity)
    share = (popularity + 1) / (popularity.sum() + len(popularity))
    recommended = _mean(percentile[shown])
    return {
        f"coverage@{cutoff}": len(np.unique(shown)) / len(popularity),
        f"gini@{cutoff}": gini(np.bincount(shown, minlength=len(popularity))),
        f"popularity@{cutoff}": recommended,
        f"popularity_bias@{cutoff}": recommended - _mean(percentile[truth.item]),
        f"novelty@{cutoff}": _mean(-np.log2(share)[shown]),
    }


def popularity_percentile(popularity: np.ndarray) -> np.ndarray:
    """Share of the catalogue that is less popular, ties counted half, float64 [I]: (below + equal / 2) / I."""
    ordered = np.sort(popularity)
    below = np.searchsorted(ordered, popularity, side="left")
    up_to = np.searchsorted(ordered, popularity, side="right")
    return (below + up_to) / (2 * len(popularity))


def gini(amounts: np.ndarray) -> float:
    """Gini coefficient of non-negative amounts [I]; NaN where nothing was given out."""
    total = amounts.sum()
    if total == 0:
        return float("nan")
    ordered = np.sort(amounts)
    place = np.arange(1, len(amounts) + 1)
    return float((2 * (place * ordered).sum()) / (len(amounts) * total) - (len(amounts) + 1) / len(amounts))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
