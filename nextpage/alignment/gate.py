"""Whether an aligned model may take its base's place: only where it earns more and loses nothing."""

from dataclasses import dataclass, field

import numpy as np

from nextpage.alignment.standing import CUTOFFS, Standing
from nextpage.evaluation.bootstrap import BootstrapConfig, Interval, paired_intervals
from nextpage.gates import Verdict

GATE = "alignment"


@dataclass(frozen=True, kw_only=True)
class AlignmentGateConfig:
    """`requests` of `split` are asked of both models. `recall_margin`: recall at every K of 1, 5, 10 and 50 may be that
    much lower (absolute) and still be called non-inferior. `coverage_share`: of the base's coverage that must be
    kept. `popularity_rise`: how much more popular, in percentiles, recommended items may be."""

    split: str = "validation"
    requests: int = 600
    recall_margin: float = 0.01
    coverage_share: float = 0.8
    popularity_rise: float = 0.02
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)

    def __post_init__(self) -> None:
        if self.split == "test":
            raise ValueError("alignment's gate reads split 'test', which is kept for evaluation: use 'validation'")
        if self.recall_margin < 0 or not 0 <= self.coverage_share <= 1:
            raise ValueError(
                f"recall_margin is {self.recall_margin} and coverage_share {self.coverage_share}: use a margin from 0 "
                "and a share from 0 to 1"
            )


def differences(
    base: Standing, aligned: Standing, users: np.ndarray, config: AlignmentGateConfig
) -> dict[str, Interval]:
    """Aligned − base of every figure by request, paired; both on the same requests of `users` (str [R])."""
    return paired_intervals(aligned.by_request, base.by_request, users, config.bootstrap)


def judge_alignment(base: Standing, aligned: Standing, users: np.ndarray, config: AlignmentGateConfig) -> Verdict:
    """The reasons name every bound that broke."""
    difference = differences(base, aligned, users, config)
    reward = difference["reward@10"]
    broken = []
    if not reward.low > 0:
        broken.append(
            f"mean reward of the first ten does not rise: {reward.mean:+.4f} ({reward.low:+.4f} to {reward.high:+.4f})"
        )
    for name in (f"{kind}Recall@{cutoff}" for kind in ("", "recommended ") for cutoff in CUTOFFS):
        recall = difference[name]
        if not recall.low > -config.recall_margin:
            broken.append(
                f"{name} may be inferior: {recall.mean:+.4f} ({recall.low:+.4f} to {recall.high:+.4f}), must lie above "
                f"{-config.recall_margin:+.4f}"
            )
    before, after = base.figures, aligned.figures
    if not after["hallucination_rate"] <= before["hallucination_rate"]:
        broken.append(
            f"more is made up: {after['hallucination_rate']:.2%} of codes generated without the trie name no item, "
            f"{before['hallucination_rate']:.2%} before"
        )
    if not after["coverage@10"] >= config.coverage_share * before["coverage@10"]:
        broken.append(
            f"coverage falls from {before['coverage@10']:.2%} to {after['coverage@10']:.2%} of the catalogue, at least "
            f"{config.coverage_share:.0%} of it must stay"
        )
    risen = after["popularity_bias@10"] - before["popularity_bias@10"]
    if not risen <= config.popularity_rise:
        broken.append(f"popularity bias rises by {risen:+.3f}, at most {config.popularity_rise:+.3f} may")
    looked_at = (
        f"mean reward {before['reward@10']:.4f} → {after['reward@10']:.4f}, Recall@10 {before['Recall@10']:.4f} → "
        f"{after['Recall@10']:.4f}, hallucination {before['hallucination_rate']:.2%} → "
        f"{after['hallucination_rate']:.2%} on {len(users)} requests"
    )
    return Verdict(gate=GATE, passed=not broken, reasons=tuple(broken) or (looked_at,))
