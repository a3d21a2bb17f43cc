"""The primary metric by day and by segment, for those who read a card. Nothing here decides.

A novelty wears off: the effect of the second half of the days is held against that of the first, over the same users.
Segments are those of the rule, written down before; their intervals are as wide as their number asks (Bonferroni).
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from nextpage.experiments.comparison import compare
from nextpage.experiments.rule import Rule
from nextpage.experiments.summary import Look, Moments, Summary

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Part:
    """The relative effect in one part of the evidence, with its interval; NaN where nothing can be said."""

    name: str
    users: int
    effect: float
    low: float
    high: float


def by_day(summary: Summary, rule: Rule) -> tuple[Part, ...]:
    """Each day alone, over the users seen on it, with 95% intervals that mind no other day."""
    return tuple(_part(f"day {look.day}", look, summary, rule, LEVEL) for look in summary.daily)


def by_segment(summary: Summary, rule: Rule) -> tuple[Part, ...]:
    """Each value of each segment; the intervals cover all values together with 95%."""
    level = 1 - (1 - LEVEL) / max(1, len(summary.segments))
    return tuple(_part(f"{name} {value}", look, summary, rule, level) for name, value, look in summary.segments)


def novelty(summary: Summary, rule: Rule) -> Part:
    """How the ratio of treatment to control changed from the first half of the days to the second, less 1.

    For each arm, the logarithm of the metric's second half over its first, by the delta method over users; the arms are
    independent. Not adjusted by covariates.
    """
    look, width = summary.early_late, len(summary.early_late.control.mean) // 2
    numerator, *denominator = (summary.columns.index(name) for name in rule.metric(rule.primary.metric).measures)
    signs = {numerator + width: 1.0, numerator: -1.0}
    for place in denominator:
        signs |= {place + width: -1.0, place: 1.0}
    (treated, treated_variance), (control, control_variance) = (
        _log_change(arm, signs) for arm in (look.treatment, look.control)
    )
    change = treated - control
    reach = float(ndtri((1 + LEVEL) / 2)) * math.sqrt(treated_variance + control_variance)
    return Part(
        name="second half against first",
        users=look.control.users + look.treatment.users,
        effect=float(np.expm1(change)),
        low=float(np.expm1(change - reach)),
        high=float(np.expm1(change + reach)),
    )


def _part(name: str, look: Look, summary: Summary, rule: Rule, level: float) -> Part:
    users = look.control.users + look.treatment.users
    comparison = compare(rule.claims[0], look, summary.columns)
    if comparison is None:
        return Part(name=name, users=users, effect=math.nan, low=math.nan, high=math.nan)
    reach = float(ndtri((1 + level) / 2))
    low, high = comparison.relative_interval(reach, reach)
    return Part(name=name, users=users, effect=comparison.relative, low=low, high=high)


def _log_change(arm: Moments, signs: dict[int, float]) -> tuple[float, float]:
    """Σ sign · ln mean over columns and its variance by the delta method; NaN where a mean is not above 0."""
    places = list(signs)
    mean = np.array([arm.mean[place] for place in places])
    if arm.users < 2 or not (mean > 0).all():
        return math.nan, math.nan
    weight = np.array([signs[place] for place in places])
    covariance = np.array(arm.covariance)[np.ix_(places, places)]
    gradient = weight / mean
    return float(weight @ np.log(mean)), float(gradient @ covariance @ gradient / arm.users)
