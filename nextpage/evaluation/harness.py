"""One way to measure any ranker, model or count: the same requests, truth, metrics, slices and resamples."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from nextpage.evaluation.baselines import BaselineConfig, rank_baselines
from nextpage.evaluation.beyond_accuracy import beyond_accuracy
from nextpage.evaluation.bootstrap import BootstrapConfig, Interval, intervals
from nextpage.evaluation.metrics import DEPTH, Ranker, check_ranking, ranking_metrics, without_seen
from nextpage.evaluation.trial import Trial
from nextpage.interactions.sequences import Sequences
from nextpage.progress import bar

HEADLINE = ("HR@10", "Recall@10", "NDCG@10")
"""What slices report and gates judge."""

COUNTED_AT_ONCE = 64
"""Prompts that baselines score together: one array of scores for 27,000 items takes 14 MB."""

RANKED_AT_ONCE = 256
"""Prompts given to a ranker together: enough for it to batch prompts of like length, few enough to show progress."""


@dataclass(frozen=True, kw_only=True)
class SliceReport:
    axis: str
    value: str
    requests: int
    metrics: dict[str, Interval]


@dataclass(frozen=True, kw_only=True)
class Report:
    """How one ranker did. `per_request` and `per_request_new` (name → float64 [R]) serve paired comparisons."""

    name: str
    requests: int
    requests_with_new: int
    metrics: dict[str, Interval]
    new_items: dict[str, Interval]
    beyond_accuracy: dict[str, float]
    slices: tuple[SliceReport, ...]
    per_request: dict[str, np.ndarray]
    per_request_new: dict[str, np.ndarray]

    def as_json(self) -> dict[str, object]:
        """Means under their names ("HR@10"), the rest below; what has no value is null. Without per-request values."""
        return {
            **_with_intervals(self.metrics),
            "requests": self.requests,
            "new_items": {**_with_intervals(self.new_items), "requests": self.requests_with_new},
            "beyond_accuracy": {name: number(value) for name, value in self.beyond_accuracy.items()},
            "slices": [
                {"axis": part.axis, "value": part.value, "requests": part.requests, **_with_intervals(part.metrics)}
                for part in self.slices
            ],
        }


def evaluate(
    name: str,
    ranker: Ranker,
    trial: Trial,
    config: BootstrapConfig,
    *,
    prompts: Sequences | None = None,
    discovery: Ranker | None = None,
) -> Report:
    """Measure `ranker` on the full catalogue.

    `prompts`: what the ranker reads, one a request (default: the whole histories). `discovery`: a ranker that leaves
    out what the user has seen, for the figures on new items; without one the seen are taken out of the first
    ranking, which then may hold fewer than DEPTH items. Raises ValueError where a ranking breaks the contract of
    `Ranker`.
    """
    prompts = trial.histories if prompts is None else prompts
    if len(prompts) != len(trial.truth):
        raise ValueError(f"{len(prompts)} prompts for {len(trial.truth)} requests: give one a request, in order")
    items = len(trial.counts.popularity)
    ranking = _ranked(ranker, prompts, items)
    unseen = ranking if discovery is None else _ranked(discovery, prompts, items)
    return measure(name, ranking, without_seen(unseen, trial.histories), trial, config)


def evaluate_baselines(trial: Trial, config: BaselineConfig, bootstrap: BootstrapConfig) -> dict[str, Report]:
    """Every counting baseline by name, each from whole histories."""
    rankings: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    with bar(total=len(trial), unit=" requests", title="baselines") as moving:
        for batch in _batches(trial.histories, COUNTED_AT_ONCE):
            for name, ranking, unseen in rank_baselines(trial.counts, config, batch, DEPTH):
                rankings.setdefault(name, []).append((ranking, unseen))
            moving.update(len(batch))
    reports = {}
    for name, parts in rankings.items():
        ranking, unseen = (np.concatenate(kind) for kind in zip(*parts, strict=True))
        reports[name] = measure(name, ranking, unseen, trial, bootstrap)
    return reports


def measure(name: str, ranking: np.ndarray, unseen: np.ndarray, trial: Trial, config: BootstrapConfig) -> Report:
    """What a ranking, and one without the items each user has seen, are worth: int [R, K] each, as a Ranker's."""
    per_request = ranking_metrics(ranking, trial.truth)
    per_request_new = ranking_metrics(unseen, trial.new_truth)
    return Report(
        name=name,
        requests=int((trial.truth.size > 0).sum()),
        requests_with_new=int((trial.new_truth.size > 0).sum()),
        metrics=intervals(per_request, trial.user_id, config),
        new_items=intervals(per_request_new, trial.user_id, config),
        beyond_accuracy=beyond_accuracy(ranking, trial.truth, trial.counts.popularity, 10),
        slices=_sliced(ranking, trial, config),
        per_request=per_request,
        per_request_new=per_request_new,
    )


def number(value: float) -> float | None:
    """A float that JSON can hold: null for NaN."""
    return None if math.isnan(value) else float(value)


def _ranked(ranker: Ranker, prompts: Sequences, items: int) -> np.ndarray:
    """Rankings of all prompts, int32 [R, DEPTH]."""
    parts = [np.empty((0, DEPTH), dtype=np.int32)]
    for batch in _batches(prompts, RANKED_AT_ONCE):
        ranking = ranker(batch, DEPTH)
        check_ranking(ranking, len(batch), DEPTH, items)
        parts.append(ranking)
    return np.concatenate(parts)


def _batches(prompts: Sequences, size: int) -> Iterator[Sequences]:
    for start in range(0, len(prompts), size):
        yield prompts.take(np.arange(start, min(start + size, len(prompts))))


def _sliced(ranking: np.ndarray, trial: Trial, config: BootstrapConfig) -> tuple[SliceReport, ...]:
    """Headline metrics of every slice that has a request, from one bootstrap."""
    columns: dict[str, np.ndarray] = {}
    for place, part in enumerate(trial.slices):
        truth = trial.truth if part.items is None else trial.truth.select(part.items[trial.truth.item])
        measured = ranking_metrics(ranking, truth, cutoffs=(10,))
        columns |= {f"{place}/{metric}": np.where(part.requests, measured[metric], np.nan) for metric in HEADLINE}
    found = intervals(columns, trial.user_id, config)
    return tuple(
        SliceReport(
            axis=part.axis,
            value=part.value,
            requests=int(np.isfinite(columns[f"{place}/{HEADLINE[0]}"]).sum()),
            metrics={metric: found[f"{place}/{metric}"] for metric in HEADLINE},
        )
        for place, part in enumerate(trial.slices)
    )


def _with_intervals(metrics: Mapping[str, Interval]) -> dict[str, object]:
    return {
        **{name: number(metric.mean) for name, metric in metrics.items()},
        "intervals": {name: [number(metric.low), number(metric.high)] for name, metric in metrics.items()},
    }
