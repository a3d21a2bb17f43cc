"""Where a model stands on held-out pages: what it earns, what it recalls, what it makes up, and whom it favours."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from nextpage.alignment.generation import Generation
from nextpage.decoding.repeat_prior import RepeatPriorConfig, mix_in_repeats
from nextpage.evaluation.beyond_accuracy import beyond_accuracy
from nextpage.evaluation.metrics import DEPTH, ranking_metrics
from nextpage.evaluation.trial import Trial
from nextpage.interactions.sequences import Sequences

CUTOFFS = (1, 5, 10, 50)
TOGETHER = 32
"""Prompts that are asked at a time, of about one length."""

Earned = Callable[[Sequences, np.ndarray], np.ndarray]
"""(prompts, item rows int [B, K]) → what each item earns, float [B, K]"""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """R requests that alignment does not learn from, and what to ask of each."""

    trial: Trial
    prompts: Sequences  # R, as the feature store gave them
    prior: RepeatPriorConfig  # of the recipe: what is recommended is a mix with it
    generated_beams: int  # code tuples a request without the trie
    generated_requests: int


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Values by request, float64 [R]: "HR@50", "Recall@10" and so on of the model alone, "recommended Recall@10" of the
    mix with the repeat prior, "R@10" the highest reward among the first ten (GenRec), "reward@10" their mean; and
    figures of the whole: "coverage@10", "popularity_bias@10"."""

    by_request: dict[str, np.ndarray]
    whole: dict[str, float]
    invalid: np.ndarray  # float64 [requests asked without the trie], the share of tuples that name no item

    @property
    def figures(self) -> dict[str, float]:
        means = {name: float(np.nanmean(values)) for name, values in self.by_request.items()}
        return means | self.whole | {"hallucination_rate": float(self.invalid.mean())}


def stand(generation: Generation, held_out: HeldOut, earned: Earned) -> Standing:
    """Ask the model for every held-out request."""
    trial, prompts = held_out.trial, held_out.prompts
    alone, recommended = (np.full((len(prompts), DEPTH), -1, dtype=np.int32) for _ in range(2))
    reward = np.zeros((len(prompts), DEPTH))
    for rows in _by_length(prompts):
        history = prompts.take(rows)
        found = generation.beams(history, DEPTH)
        items, log_prob = found.rows.numpy(), found.log_prob.numpy()
        alone[rows] = items
        recommended[rows], _ = mix_in_repeats(items, log_prob, history, held_out.prior, None)
        reward[rows] = earned(history, items)
    metrics = ranking_metrics(alone, trial.truth, cutoffs=CUTOFFS)
    mixed = ranking_metrics(recommended, trial.truth, cutoffs=CUTOFFS)
    by_request = metrics | {f"recommended {name}": values for name, values in mixed.items()}
    by_request |= {f"R@{cutoff}": reward[:, :cutoff].max(axis=1) for cutoff in CUTOFFS}
    beyond = beyond_accuracy(alone, trial.truth, trial.counts.popularity, 10)
    return Standing(
        by_request=by_request | {"reward@10": reward[:, :10].mean(axis=1)},
        whole={name: beyond[name] for name in ("coverage@10", "popularity_bias@10")},
        invalid=_invalid(generation, held_out),
    )


def _invalid(generation: Generation, held_out: HeldOut) -> np.ndarray:
    rows = np.linspace(0, len(held_out.prompts) - 1, min(held_out.generated_requests, len(held_out.prompts)))
    prompts = held_out.prompts.take(rows.astype(np.int64))
    share = np.zeros(len(prompts))
    for batch in _by_length(prompts):
        share[batch] = generation.invalid_share(prompts.take(batch), held_out.generated_beams)
    return share


def _by_length(prompts: Sequences) -> Iterator[np.ndarray]:
    order = np.argsort(np.diff(prompts.offset), kind="stable")
    for start in range(0, len(prompts), TOGETHER):
        yield order[start : start + TOGETHER]
