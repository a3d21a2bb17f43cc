"""The verdict on a release in an A/B test: a function of the rule and of the summarised evidence, of nothing else.

Quality comes first, then harm, then success:

    INVALID    a check of quality failed: the figures mean nothing, for or against. Traffic is held where it is, and
               the cause is looked for
    ROLLBACK   the primary metric is worse, or a guardrail is worse than its margin; or the horizon is reached without
               a decision: control is kept
    PROMOTE    on a promotion day the primary metric wins and every guardrail is shown to be no worse than its margin,
               and the rule says auto or somebody approved
    HOLD       anything else: too few users, too early, undecided, or a success that waits for approval

No data is never a success. Every test is one-sided against a sequential bound, so looking daily costs nothing.
"""

import math
from dataclasses import dataclass

import numpy as np

from nextpage.experiments.comparison import Comparison, compare
from nextpage.experiments.quality import quality_failures
from nextpage.experiments.rule import PRIMARY, Claim, Rule
from nextpage.experiments.sequential import critical_values
from nextpage.experiments.summary import Summary

PROMOTE, HOLD, ROLLBACK, INVALID = VERDICTS = ("PROMOTE", "HOLD", "ROLLBACK", "INVALID")
SHOWN, HARMED, UNDECIDED, NO_DATA = "shown", "harmed", "undecided", "no data"


@dataclass(frozen=True, kw_only=True)
class Point:
    """A claim at the end of a day. `z` against `to_show` (None: not asked that day, or beyond reach) and against
    −`to_harm`. `effect` is relative to control, or a difference where the margin is absolute; `low` and `high` are its
    interval at those bounds. None where a figure does not exist."""

    day: int
    control: float
    treatment: float
    effect: float | None
    low: float | None
    high: float | None
    z: float
    to_show: float | None
    to_harm: float | None


@dataclass(frozen=True, kw_only=True)
class Tested:
    """`finding`, of the last day: shown (it wins, or is no worse than its margin), harmed, undecided, no data."""

    metric: str
    role: str
    direction: str
    margin: float
    absolute: bool
    finding: str
    path: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """`cause`: in a word, for programs: quality, harm, horizon, success, approval (awaited), data, undecided."""

    verdict: str
    cause: str
    reasons: tuple[str, ...]
    day: int
    tested: tuple[Tested, ...]


def decide(rule: Rule, summary: Summary, *, approved_by: str | None = None) -> Decision:
    """The verdict at the end of the summary's last day. Pure: the same rule and summary give the same decision."""
    tested = tuple(assess(claim, rule, summary) for claim in rule.claims)

    def decision(verdict: str, cause: str, *reasons: str) -> Decision:
        return Decision(verdict=verdict, cause=cause, reasons=reasons, day=summary.through_day, tested=tested)

    if failures := quality_failures(rule, summary):
        return decision(INVALID, "quality", *failures)
    if harmed := [_sentence(one) for one in tested if one.finding == HARMED]:
        return decision(ROLLBACK, "harm", *harmed)
    said = [_sentence(one) for one in tested]
    if all(one.finding == SHOWN for one in tested):
        if rule.promotion == "auto":
            return decision(PROMOTE, "success", *said)
        if approved_by:
            return decision(PROMOTE, "success", *said, f"approved by {approved_by}")
        return decision(HOLD, "approval", *said, "the rule asks for an approval before promotion: none is there yet")
    if summary.through_day >= rule.horizon_days:
        return decision(ROLLBACK, "horizon", f"day {summary.through_day} is the last: control is kept", *said)
    if missing := _missing(rule, summary):
        return decision(HOLD, "data", missing)
    return decision(HOLD, "undecided", *said)


def assess(claim: Claim, rule: Rule, summary: Summary) -> Tested:
    """The claim at every look so far. Looks with too few users, or at which nothing can be said, are no looks."""
    enough = [look for look in summary.looks if min(look.control.users, look.treatment.users) >= rule.minimum_users]
    compared = [(look.day, compare(claim, look, summary.columns)) for look in enough]
    looks = [(day, comparison) for day, comparison in compared if comparison is not None]
    path: tuple[Point, ...] = ()
    if looks:
        days = np.array([day for day, _ in looks])
        to_show, to_harm = _bounds(claim, rule, days, np.array([comparison.information for _, comparison in looks]))
        path = tuple(
            _point(claim, day, comparison, float(show), float(harm))
            for (day, comparison), show, harm in zip(looks, to_show, to_harm, strict=True)
        )
    return Tested(
        metric=claim.metric.name,
        role=claim.role,
        direction=claim.direction,
        margin=claim.margin,
        absolute=claim.absolute,
        finding=_finding(path, summary.through_day),
        path=path,
    )


def _bounds(claim: Claim, rule: Rule, days: np.ndarray, information: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What z must reach to show the claim, infinite on days without promotion, and −z to show harm; [K] each."""
    fraction, planned = days / rule.horizon_days, rule.planned_information(claim)
    to_harm = critical_values(information, fraction, rule.harm_alpha, planned, rule.sequential)
    to_show = np.full(len(days), np.inf)
    asked = np.array([rule.is_promotion_day(int(day)) for day in days])
    if asked.any():
        to_show[asked] = critical_values(information[asked], fraction[asked], rule.alpha, planned, rule.sequential)
    return to_show, to_harm


def _point(claim: Claim, day: int, comparison: Comparison, to_show: float, to_harm: float) -> Point:
    good = to_show if math.isfinite(to_show) else to_harm
    below, above = (good, to_harm) if claim.direction == "increase" else (to_harm, good)
    interval = comparison.absolute_interval if claim.absolute else comparison.relative_interval
    low, high = interval(below, above)
    effect = comparison.treatment - comparison.control if claim.absolute else comparison.relative
    return Point(
        day=day,
        control=comparison.control,
        treatment=comparison.treatment,
        effect=_finite(effect),
        low=_finite(low) if math.isfinite(below) else None,
        high=_finite(high) if math.isfinite(above) else None,
        z=comparison.z,
        to_show=_finite(to_show),
        to_harm=_finite(to_harm),
    )


def _finding(path: tuple[Point, ...], through_day: int) -> str:
    if not path or path[-1].day != through_day:
        return NO_DATA
    last = path[-1]
    if last.to_harm is not None and last.z <= -last.to_harm:
        return HARMED
    return SHOWN if last.to_show is not None and last.z >= last.to_show else UNDECIDED


def _missing(rule: Rule, summary: Summary) -> str | None:
    control, treatment = summary.users
    if min(control, treatment) >= rule.minimum_users:
        return None
    return (
        f"{control:,} users in control and {treatment:,} in treatment by day {summary.through_day}: each needs "
        f"{rule.minimum_users:,} before anything is tested"
    )


def _sentence(tested: Tested) -> str:
    if tested.finding == NO_DATA:
        return f"{tested.metric}: nothing can be said, too few users or no difference between any two of them"
    last = tested.path[-1]
    asked = f", {_amount(tested.margin, tested.absolute)} is borne" if tested.role != PRIMARY else ""
    word = {
        SHOWN: "wins" if tested.role == PRIMARY else "no worse than its margin",
        HARMED: "worse" if tested.role == PRIMARY else "worse than its margin",
        UNDECIDED: "undecided",
    }[tested.finding]
    return (
        f"{tested.metric}: {word}: {_signed(last.effect, tested.absolute)} "
        f"(interval {_signed(last.low, tested.absolute)} to {_signed(last.high, tested.absolute)}{asked})"
    )


def _amount(value: float, absolute: bool) -> str:
    return f"{value:g}" if absolute else f"{value:.2%}"


def _signed(value: float | None, absolute: bool) -> str:
    if value is None:
        return "–"
    return f"{value:+.3g}" if absolute else f"{value:+.2%}"


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
