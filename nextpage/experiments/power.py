"""Whether an experiment can end in a decision, and how many days it needs, from days that are already logged.

The past days are read as if an experiment had run on them without effect. The squared relative error of a comparison
falls from day to day as a + b ∕ days: b is what users do at random, a how much they differ from each other, which no
number of days takes away and only more users, or a covariate, do. Power is that of the sequential design, exact for the
normal distribution; each of the rule's claims must have `rule.claim_power`, so that all hold together.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.optimize import brentq, nnls

from nextpage.experiments.assignment import BUCKETS, CONTROL, Experiment
from nextpage.experiments.comparison import compare
from nextpage.experiments.rule import Claim, Rule
from nextpage.experiments.sequential import critical_values, crossing_probabilities
from nextpage.experiments.summary import Look, summarise
from nextpage.gates import Verdict

LONGEST = 364  # days, beyond which no experiment is planned
MOST_LOOKS = 30


@dataclass(frozen=True, kw_only=True)
class Precision:
    """The information of a comparison after t days: 1 ∕ (`lasting` + `passing` ∕ t)."""

    lasting: float
    passing: float

    def information(self, days: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (self.lasting + self.passing / days))


@dataclass(frozen=True, kw_only=True)
class ClaimPlan:
    """`power` at the rule's horizon and with the effect that the rule names; `days`: the shortest horizon with enough
    of it (None: more than LONGEST); `detectable`: the smallest effect that has enough of it at the rule's horizon."""

    claim: Claim
    power: float
    days: int | None
    detectable: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`days`: the shortest horizon at which every claim has enough power; None: more than LONGEST."""

    claims: tuple[ClaimPlan, ...]
    days: int | None


def plan(rule: Rule, history: pa.Table, experiment: Experiment) -> Plan:
    """`history`: rows in the form of `evidence` of all users, whatever their arm, days numbered from 1.

    Raises ValueError where the history holds fewer than two days, or says nothing of a metric.
    """
    days = min(pc.max(history["day"]).as_py() or 0, rule.horizon_days)
    if days < 2:
        raise ValueError(f"the history holds {days} days: power is planned from two at least, better two weeks")
    arm = history.column_names.index("arm")
    one_arm = history.set_column(arm, "arm", pa.array([CONTROL] * len(history), pa.string()))
    summary = summarise(one_arm, rule, days)
    looks = [Look(day=look.day, control=look.control, treatment=look.control) for look in summary.looks]
    shares = _shares(experiment)
    claims = []
    for claim in rule.claims:
        precision = _precision(claim, looks, summary.columns, shares)
        claims.append(
            ClaimPlan(
                claim=claim,
                power=claim_power(claim, rule, precision, rule.horizon_days, claim.effect),
                days=_days_needed(claim, rule, precision),
                detectable=_detectable(claim, rule, precision),
            )
        )
    needed = [each.days for each in claims]
    return Plan(claims=tuple(claims), days=None if None in needed else max(day for day in needed if day is not None))


def power_gate(rule: Rule, plan: Plan) -> Verdict:
    """Passed where every claim has enough power at the rule's horizon. An experiment that cannot decide must not start:
    its days are lost, and what it finds by luck is overstated."""
    weak = [_weakness(each, rule) for each in plan.claims if each.power < rule.claim_power]
    if not weak:
        found = [f"{each.claim.metric.name}: power {each.power:.0%}" for each in plan.claims]
        return Verdict(gate="power", passed=True, reasons=(f"in {rule.horizon_days} days: " + ", ".join(found),))
    remedy = (
        f"set horizon_days to {plan.days}"
        if plan.days is not None
        else "no year is long enough: put more users into the arms, adjust by a covariate, or look for a larger effect"
    )
    return Verdict(gate="power", passed=False, reasons=(*weak, remedy))


def claim_power(claim: Claim, rule: Rule, precision: Precision, horizon: int, effect: float) -> float:
    """The chance to show the claim on one of the promotion days of a horizon, where the truth is `effect` away."""
    return float(crossing_probabilities(*_looks(claim, rule, precision, horizon), effect).sum())


def _looks(claim: Claim, rule: Rule, precision: Precision, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Information and bound of each promotion day, or of MOST_LOOKS of them: more change power by a hundredth."""
    apart = rule.promotion_days * math.ceil(horizon / rule.promotion_days / MOST_LOOKS)
    days = np.arange(horizon, 0, -apart)[::-1]
    information = precision.information(days)
    planned = rule.planned_information(claim)
    return information, critical_values(information, days / horizon, rule.alpha, planned, rule.sequential)


def _days_needed(claim: Claim, rule: Rule, precision: Precision) -> int | None:
    horizons = range(rule.promotion_days, LONGEST + 1, rule.promotion_days)
    place = bisect_left(
        horizons,
        rule.claim_power,
        key=lambda horizon: claim_power(claim, rule, precision, horizon, claim.effect),
    )
    return horizons[place] if place < len(horizons) else None


def _detectable(claim: Claim, rule: Rule, precision: Precision) -> float:
    information, bounds = _looks(claim, rule, precision, rule.horizon_days)
    error = float(1 / np.sqrt(information[-1]))

    def lack(effect: float) -> float:
        return rule.claim_power - float(crossing_probabilities(information, bounds, effect).sum())

    return float(brentq(lack, 0.0, 20 * error, xtol=1e-4 * error))


def _precision(claim: Claim, looks: list[Look], columns: tuple[str, ...], shares: tuple[float, float]) -> Precision:
    compared = [(look.day, compare(claim, look, columns)) for look in looks]
    points = [(day, comparison.information) for day, comparison in compared if comparison is not None]
    if len(points) < 2:
        raise ValueError(f"the history says nothing of {claim.metric.name!r}: does any user differ from another?")
    days, information = np.array(points).T
    # Two arms of all users each were compared; the experiment's hold shares of them.
    squared_error = (1 / shares[0] + 1 / shares[1]) / 2 / information
    terms = np.stack([np.ones_like(days), 1 / days], axis=1) / squared_error[:, None]
    (lasting, passing), _ = nnls(terms, np.ones_like(days))
    return Precision(lasting=float(lasting), passing=float(passing))


def _shares(experiment: Experiment) -> tuple[float, float]:
    """Of all users, in control and in treatment."""
    held = (experiment.slots[1] - experiment.slots[0]) / BUCKETS
    treated, control = experiment.edges
    shares = (held * (BUCKETS - control) / BUCKETS, held * treated / BUCKETS)
    if not all(shares):
        raise ValueError(f"experiment {experiment.name!r} at share {experiment.share:.2%} has an arm without users")
    return shares


def _weakness(each: ClaimPlan, rule: Rule) -> str:
    kind = "an effect" if each.claim.margin == 0 else "a margin"
    amount = f"{each.claim.effect:g}" if each.claim.absolute else f"{each.claim.effect:.2%}"
    least = f"{each.detectable:.3g}" if each.claim.absolute else f"{each.detectable:.2%}"
    needs = f"it needs {each.days} days" if each.days is not None else f"it needs more than {LONGEST} days"
    return (
        f"{each.claim.metric.name}: power {each.power:.0%} for {kind} of {amount} in {rule.horizon_days} days, "
        f"{rule.claim_power:.0%} is asked: {needs}; {rule.horizon_days} days are enough for {least}"
    )
