"""Whether a candidate may go on: it must beat the named counts, and it must write items."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from nextpage.evaluation.baselines import TITLES
from nextpage.evaluation.bootstrap import BootstrapConfig, Interval, paired_intervals
from nextpage.evaluation.harness import HEADLINE, Report
from nextpage.evaluation.trial import Trial
from nextpage.gates import Verdict

Comparison = dict[str, dict[str, Interval]]
"""Baseline → metric → paired interval of ranker − baseline."""


@dataclass(frozen=True, kw_only=True)
class RecallGateConfig:
    """`beat`: baselines (names in TITLES) that the model must beat on every metric of `on`, by a paired interval that
    is clear of zero; none: nothing is asked. `max_invalid_share`: the most that may be generated without the trie and
    name no item."""

    beat: tuple[str, ...] = (
        "popularity",
        "recent_popularity",
        "cooccurrence",
        "bigram_last_page",
        "bigram_prompt",
    )
    on: tuple[str, ...] = HEADLINE
    max_invalid_share: float = 0.1

    def __post_init__(self) -> None:
        unknown = set(self.beat) - set(TITLES)
        if unknown:
            raise ValueError(f"no baseline is named {', '.join(sorted(unknown))}: use some of {', '.join(TITLES)}")
        if not 0 <= self.max_invalid_share <= 1:
            raise ValueError(f"max_invalid_share {self.max_invalid_share} is no share: use 0 to 1")


def compare(ranker: Report, others: Mapping[str, Report], trial: Trial, config: BootstrapConfig) -> Comparison:
    """Paired differences of every metric, and as "new items HR@10" and so on of the metrics on new items."""
    comparison: Comparison = {}
    for name, other in others.items():
        new = paired_intervals(ranker.per_request_new, other.per_request_new, trial.user_id, config)
        comparison[name] = {
            **paired_intervals(ranker.per_request, other.per_request, trial.user_id, config),
            **{f"new items {metric}": interval for metric, interval in new.items()},
        }
    return comparison


def recall_gate(comparison: Comparison, requests: int, config: RecallGateConfig) -> Verdict:
    """Passed where the model beats every named baseline on every named metric. No requests is never a success."""
    if not config.beat:
        return _verdict("recall", [], "the recipe names no baseline that must be beaten")
    if requests == 0:
        return _verdict("recall", ["no request had a truth, so nothing was measured: is the split empty?"], "")
    broken = []
    for baseline in config.beat:
        for metric in config.on:
            if metric not in comparison[baseline]:
                raise ValueError(f"no metric is named {metric!r}: use some of {', '.join(comparison[baseline])}")
            interval = comparison[baseline][metric]
            if not interval.low > 0:
                broken.append(
                    f"{metric}: the model does not beat {TITLES[baseline]}: difference {interval.mean:+.3f}, "
                    f"interval {interval.low:+.3f} to {interval.high:+.3f}, must lie above 0"
                )
    looked_at = f"{', '.join(config.on)} above {'; '.join(TITLES[name] for name in config.beat)} on {requests} requests"
    return _verdict("recall", broken, looked_at)


def invalid_items_gate(invalid_share: float, config: RecallGateConfig) -> Verdict:
    """Passed where few enough of the codes generated without the trie name no item; nothing generated fails."""
    found = f"{invalid_share:.2%} of codes generated without the trie name no item"
    if math.isnan(invalid_share):
        return _verdict("invalid items", ["nothing was generated without the trie, so nothing was measured"], "")
    broken = (
        [f"{found}, at most {config.max_invalid_share:.2%} may"] if invalid_share > config.max_invalid_share else []
    )
    return _verdict("invalid items", broken, f"{found} (bound {config.max_invalid_share:.2%})")


def _verdict(gate: str, broken: list[str], looked_at: str) -> Verdict:
    return Verdict(gate=gate, passed=not broken, reasons=tuple(broken) or (looked_at,))
