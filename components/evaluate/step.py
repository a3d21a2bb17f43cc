"""Measure a candidate release and the counts on the same requests, and say whether it may go on."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from nextpage.evaluation.card import Findings, write_card
from nextpage.evaluation.config import EvaluationConfig
from nextpage.evaluation.gates import Comparison, compare, invalid_items_gate, recall_gate
from nextpage.evaluation.hallucination import hallucination_rate
from nextpage.evaluation.harness import Report, evaluate_baselines, measure, number
from nextpage.evaluation.metrics import DEPTH, check_ranking, without_seen
from nextpage.evaluation.trial import model_prompts, read_trial
from nextpage.gates import Verdict
from nextpage.interactions.log import Dataset
from nextpage.interactions.sequences import Sequences
from nextpage.recommender import Rankings
from nextpage.tokenizers.semantic_ids import SemanticIds

MODEL = "model"
WITH_PRIOR = "model with prior"


class Candidate(Protocol):
    """What is asked of a model: a `Recommender` has it."""

    semantic_ids: SemanticIds

    def rankings(self, prompts: Sequences, k: int) -> Rankings: ...

    def generate_unconstrained(self, prompts: Sequences, beam_width: int) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The verdicts, and the model's main figures for the list of metrics."""

    recall: Verdict
    invalid_items: Verdict
    figures: dict[str, float]


def evaluate(candidate: Path, features: Path, clean: Path, metrics: Path, card: Path) -> Outcome:
    """Evaluate the sealed release `candidate` as its recipe says.

    The model reads the prompts of `features/evaluation.parquet`; the truth and the counts come from the dataset folder
    `clean`. Writes all figures as JSON to `metrics` and the model card to `card`, whatever the verdicts.
    """
    from nextpage.decoding.repeat_prior import RepeatPriorConfig
    from nextpage.recommender import load_recommender

    recommender = load_recommender(candidate)
    return evaluate_candidate(
        recommender,
        features,
        clean,
        metrics,
        card,
        config=recommender.recipe.part("evaluation", EvaluationConfig),
        title=recommender.release_name,
        has_prior=recommender.recipe.part("repeat_prior", RepeatPriorConfig).weight > 0,
    )


def evaluate_candidate(
    candidate: Candidate,
    features: Path,
    clean: Path,
    metrics: Path,
    card: Path,
    *,
    config: EvaluationConfig,
    title: str,
    has_prior: bool,
) -> Outcome:
    """As `evaluate`, for a model that is open already. With `has_prior` it is measured without and with its prior;
    the gate is about the model alone."""
    item_ids = candidate.semantic_ids.item_ids
    trial = read_trial(
        Dataset(folder=clean),
        item_ids.tolist(),
        split=config.split,
        limit=config.requests,
        relevant=config.relevant,
        recent_days=config.baselines.recent_days,
    )
    prompts = model_prompts(features / "evaluation.parquet", trial, item_ids.tolist())
    ranked = candidate.rankings(prompts, DEPTH)
    new = without_seen(ranked.new, trial.histories)  # a prompt may hold less than the whole history
    kinds = {MODEL: ranked.model} | ({WITH_PRIOR: ranked.with_prior} if has_prior else {})
    for ranking in (*kinds.values(), new):
        check_ranking(ranking, len(trial), DEPTH, len(item_ids))
    models = {name: measure(name, ranking, new, trial, config.bootstrap) for name, ranking in kinds.items()}
    baselines = evaluate_baselines(trial, config.baselines, config.bootstrap)
    comparisons = {name: compare(report, baselines, trial, config.bootstrap) for name, report in models.items()}
    some = prompts.take(np.linspace(0, len(trial) - 1, min(len(trial), config.generated_requests)).astype(np.int64))
    generated = candidate.generate_unconstrained(some, config.generated_beams)
    invalid_share = hallucination_rate(generated, candidate.semantic_ids)
    recall = recall_gate(comparisons[MODEL], models[MODEL].requests, config.gate)
    invalid_items = invalid_items_gate(invalid_share, config.gate)
    findings = Findings(
        title=title,
        split=config.split,
        users=len(set(trial.user_id)),
        models=models,
        baselines=baselines,
        comparisons=comparisons,
        invalid_share=invalid_share,
        verdicts=(recall, invalid_items),
    )
    metrics.write_text(json.dumps(as_json(findings), indent=1, allow_nan=False))
    card.write_text(write_card(findings))
    return Outcome(recall=recall, invalid_items=invalid_items, figures=_figures(models, invalid_share))


def as_json(findings: Findings) -> dict[str, object]:
    """metrics.json: `model`, `model_with_prior` where there is one, `baselines`, `differences`, and the gates."""
    key = {name: name.replace(" ", "_") for name in findings.models}
    return {
        **{key[name]: report.as_json() for name, report in findings.models.items()},
        "baselines": {name: report.as_json() for name, report in findings.baselines.items()},
        "differences": {key[name]: _differences(found) for name, found in findings.comparisons.items()},
        "hallucination_rate": number(findings.invalid_share),
        "split": findings.split,
        "users": findings.users,
        "verdicts": {verdict.gate: verdict.passed for verdict in findings.verdicts},
    }


def _differences(comparison: Comparison) -> dict[str, dict[str, dict[str, float | None]]]:
    return {
        baseline: {
            metric: {bound: number(value) for bound, value in interval.as_json().items()}
            for metric, interval in metrics.items()
        }
        for baseline, metrics in comparison.items()
    }


def _figures(models: dict[str, Report], invalid_share: float) -> dict[str, float]:
    """Under names that a list of metrics can hold: model_HR_10 and so on."""
    figures = {
        f"{name} {metric}".replace(" ", "_").replace("@", "_"): report.metrics[metric].mean
        for name, report in models.items()
        for metric in ("HR@10", "Recall@10", "NDCG@10", "HR@50")
    }
    return figures | {"hallucination_rate": invalid_share}
