"""Treatment against control on one metric, from moments: the delta method and CUPED of tea-tasting.

A margin m is tested by the linear hypothesis treatment − (1 − m) control > 0, and so stands at no logarithm: an arm
without a single order is an effect like any other. To tea-tasting this is a control whose numerators are scaled.

Deng, Knoblich, Lu (2018), "Applying the Delta Method in Metric Analytics"; Deng, Xu, Kohavi, Walker (2013), "Improving
the Sensitivity of Online Controlled Experiments by Utilizing Pre-Experiment Data".
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtri

from nextpage.experiments.evidence import BEFORE
from nextpage.experiments.rule import Claim, Metric
from nextpage.experiments.summary import Look, Moments

if TYPE_CHECKING:
    from tea_tasting.aggr import Aggregates

LEVEL = 0.01  # of the intervals asked of tea-tasting: errors are read off them, and narrow ones do not overflow


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`control`, `treatment`: the metric, adjusted by CUPED. `z`: of the claim, above 0 in its favour; `information`:
    1 ∕ its standard error², relative to control where the margin is. `relative`: treatment ∕ control − 1, NaN where
    control is 0, and `log_error` the standard error of its logarithm; `error` that of treatment − control."""

    control: float
    treatment: float
    z: float
    information: float
    relative: float
    log_error: float
    error: float

    def relative_interval(self, below: float, above: float) -> tuple[float, float]:
        """The relative effect less `below` and plus `above` standard errors, on the scale of logarithms."""
        ratio = 1 + self.relative
        if not ratio > 0:
            return math.nan, math.nan
        return float(ratio * np.exp(-below * self.log_error)) - 1, float(ratio * np.exp(above * self.log_error)) - 1

    def absolute_interval(self, below: float, above: float) -> tuple[float, float]:
        """The difference less `below` and plus `above` standard errors."""
        difference = self.treatment - self.control
        return difference - below * self.error, difference + above * self.error


def compare(claim: Claim, look: Look, columns: Sequence[str]) -> Comparison | None:
    """None where nothing can be said: fewer than two users in an arm, or no user differs from another."""
    if min(look.control.users, look.treatment.users) < 2:
        return None
    metric, sign = claim.metric, 1 if claim.direction == "increase" else -1
    treatment = _aggregates(look.treatment, columns, metric)
    with np.errstate(all="ignore"):  # 0 orders in an arm: what is then not a number is looked for below
        plain = _analysis(metric).analyze_aggregates(_aggregates(look.control, columns, metric), treatment)
        error = _error(plain.effect_size_ci_upper - plain.effect_size_ci_lower)
        ratios = np.array([1 + plain.rel_effect_size_ci_upper, 1 + plain.rel_effect_size_ci_lower], dtype=float)
        log_error = _error(float(np.log(ratios[0] / ratios[1])))
        scaled = plain
        if claim.margin and not claim.absolute:
            less = _aggregates(look.control, columns, metric, 1 - sign * claim.margin)
            scaled = _analysis(metric).analyze_aggregates(less, treatment)
        scaled_error = _error(scaled.effect_size_ci_upper - scaled.effect_size_ci_lower)
    if claim.absolute:
        error = max(error, _one_event(metric, look, columns))
        z, information = (sign * plain.effect_size + claim.margin) / error, 1 / error**2
    elif scaled_error > 0:
        z, information = sign * scaled.effect_size / scaled_error, (scaled.control / scaled_error) ** 2
    else:
        return None
    if not (math.isfinite(z) and math.isfinite(information) and information > 0):
        return None
    return Comparison(
        control=float(plain.control),
        treatment=float(plain.treatment),
        z=float(z),
        information=float(information),
        relative=float(plain.rel_effect_size) if plain.control else math.nan,
        log_error=log_error,
        error=float(error),
    )


@cache
def _analysis(metric: Metric) -> Any:
    """Welch's standard error and the normal distribution: sequential bounds are for z."""
    from tea_tasting.metrics import RatioOfMeans  # imports ibis: two seconds

    return RatioOfMeans(
        metric.numerator,
        metric.denominator,
        BEFORE + metric.numerator if metric.cuped else None,
        BEFORE + metric.denominator if metric.cuped and metric.denominator else None,
        alternative="two-sided",
        confidence_level=LEVEL,
        equal_var=False,
        use_t=False,
    )


def _aggregates(moments: Moments, columns: Sequence[str], metric: Metric, scale: float = 1.0) -> "Aggregates":
    """The moments of the metric's columns in tea-tasting's form, the numerator multiplied by `scale`."""
    from tea_tasting.aggr import Aggregates

    names = [*metric.measures, *((BEFORE + name for name in metric.measures) if metric.cuped else ())]
    places = [columns.index(name) for name in names]
    times = [scale if name == metric.numerator else 1.0 for name in names]
    covariance = {
        (names[i], names[j]): moments.covariance[places[i]][places[j]] * times[i] * times[j]
        for i in range(len(names))
        for j in range(len(names))
    }
    return Aggregates(
        count_=moments.users,
        mean_={name: moments.mean[place] * by for name, place, by in zip(names, places, times, strict=True)},
        var_={name: covariance[name, name] for name in names},
        cov_={pair: value for pair, value in covariance.items() if pair[0] < pair[1]},
    )


def _error(width: float) -> float:
    """The standard error from the width of an interval, 0 where users do not differ and it is not a number."""
    return float(width / (2 * ndtri((1 + LEVEL) / 2))) if width > 0 else 0.0


def _one_event(metric: Metric, look: Look, columns: Sequence[str]) -> float:
    """The least error of a difference of rates: as though each arm had seen one more event. No error in a hundred
    requests is no proof that there are none."""
    assert metric.denominator is not None  # held by Rule
    place = columns.index(metric.denominator)
    seen = [arm.users * arm.mean[place] for arm in (look.control, look.treatment)]
    return math.hypot(*(1 / count if count > 0 else math.inf for count in seen))
