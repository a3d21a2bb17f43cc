"""What a release would have earned, from what another one logged: the gate before the experiment.

Each logged row has the reward r of an item that was shown, the probability π₀ with which the logging release chose it
and the probability π with which the release in question would have; the weight is w = π ∕ π₀.

    IPS             mean of w r                                  unbiased where π₀ > 0 wherever π is
    SNIPS           Σ w r ∕ Σ w                                  a little bias, much less variance
    doubly robust   mean of E_π[q] + w (r − q(shown))            q a guess of the reward; right if q or π₀ is

Dudík, Langford, Li (2011), "Doubly Robust Policy Evaluation and Learning"; Swaminathan and Joachims (2015), "The
Self-Normalized Estimator for Counterfactual Learning". An item's reward is taken to depend on it and its position, not
on what else was shown. The weights say themselves how far to trust them: their mean must be 1, and their effective
number (Σ w)² ∕ Σ w² (Kish) is how many rows of the release's own they are worth.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from nextpage.gates import Verdict

ROUNDING = 0.01
"""Of probabilities in bfloat16: a release that is asked its own log again has weights of 1.005, not 1."""


@dataclass(frozen=True, kw_only=True)
class OffPolicyConfig:
    """`margin`: how much lower than the logging release's, relative, the value may be; `fewest`: effective rows.
    `largest_weight`: weights are cut there, which biases downward and is said; infinite: they are not."""

    margin: float = 0.02
    fewest: float = 1_000.0
    level: float = 0.95
    largest_weight: float = math.inf


@dataclass(frozen=True, kw_only=True)
class LoggedChoices:
    """Float64 [R] each; `cluster` [R]: rows of one user, or request, that are alike. `predicted` and `expected`, for
    the doubly robust estimate: q of the item shown, and the mean of q over what the release in question would show."""

    reward: np.ndarray
    logged: np.ndarray
    target: np.ndarray
    cluster: np.ndarray
    predicted: np.ndarray | None = None
    expected: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not len(self.reward):
            raise ValueError("no choice was logged: there is nothing to estimate from")
        if not ((self.logged > 0) & (self.logged <= 1)).all():
            raise ValueError("a logged probability is not in (0, 1]: what was shown had a chance to be")
        if not ((self.target >= 0) & (self.target <= 1)).all():
            raise ValueError("a probability of the release in question is not in [0, 1]")
        if not np.isfinite(self.reward).all():
            raise ValueError("a logged reward is not finite")


@dataclass(frozen=True, kw_only=True)
class OffPolicyEstimate:
    """`value` of the release in question with its interval, and its `difference` to that of the logging one, `logged`.
    `mean_weight` with its standard error; `cut`: the share of rows whose weight was cut."""

    estimator: str
    value: float
    low: float
    high: float
    logged: float
    difference: float
    difference_low: float
    difference_high: float
    effective_rows: float
    mean_weight: float
    mean_weight_error: float
    cut: float


def ips(choices: LoggedChoices, config: OffPolicyConfig) -> OffPolicyEstimate:
    """Inverse propensity score."""
    terms = _weights(choices, config) * choices.reward
    value = float(terms.mean())
    return _estimate("IPS", value, terms - value, choices, config)


def snips(choices: LoggedChoices, config: OffPolicyConfig) -> OffPolicyEstimate:
    """Self-normalised IPS; its interval by the delta method. Raises ValueError where all weights are 0."""
    weights = _weights(choices, config)
    if not weights.any():
        raise ValueError("the release in question would have shown none of the logged items: log a wider policy")
    value = float(weights @ choices.reward / weights.sum())
    return _estimate("SNIPS", value, weights * (choices.reward - value) / weights.mean(), choices, config)


def doubly_robust(choices: LoggedChoices, config: OffPolicyConfig) -> OffPolicyEstimate:
    """Raises ValueError where the choices carry no predictions. A q learnt from these rows must be cross-fitted."""
    if choices.predicted is None or choices.expected is None:
        raise ValueError("the doubly robust estimate needs `predicted` and `expected` rewards: use snips without them")
    terms = choices.expected + _weights(choices, config) * (choices.reward - choices.predicted)
    value = float(terms.mean())
    return _estimate("doubly robust", value, terms - value, choices, config)


def off_policy_gate(estimate: OffPolicyEstimate, config: OffPolicyConfig) -> Verdict:
    """Passed where the release is shown to earn at least what the logging one did, less the margin. Too few effective
    rows, or weights that contradict themselves, say nothing, and nothing is never a success."""
    broken = _says_nothing(estimate, config)
    bound, found = -config.margin * estimate.logged, _said(estimate)
    if not estimate.difference_low > bound:
        broken.append(f"{found}: it must lie above {bound:+.3g}")
    return Verdict(gate="off-policy value", passed=not broken, reasons=tuple(broken) or (found,))


def off_policy_harm(estimates: Sequence[OffPolicyEstimate], config: OffPolicyConfig) -> Verdict:
    """Of several estimates from one log. Not passed where each shows that the release earns less than the logging one
    did, by more than the margin. A log that says nothing stops nothing here: a canary and an experiment follow."""
    nothing = _says_nothing(estimates[0], config)
    bound = -config.margin * estimates[0].logged
    worse = not nothing and all(estimate.difference_high < bound for estimate in estimates)
    said = [f"{_said(estimate)}{f': worse than {bound:+.3g}' if worse else ''}" for estimate in estimates]
    return Verdict(gate="off-policy harm", passed=not worse, reasons=(*nothing, *said))


def _says_nothing(estimate: OffPolicyEstimate, config: OffPolicyConfig) -> list[str]:
    """Why the weights, the same for every estimate from one log, are not to be trusted; empty where they are."""
    reasons = []
    if estimate.effective_rows < config.fewest:
        reasons.append(
            f"the log is worth {estimate.effective_rows:,.0f} rows of the new release's own, {config.fewest:,.0f} are "
            "asked: the two choose too differently, let the logging release explore more"
        )
    if abs(estimate.mean_weight - 1) > 4 * estimate.mean_weight_error + ROUNDING and not estimate.cut:
        reasons.append(
            f"the weights' mean is {estimate.mean_weight:.3f} ± {estimate.mean_weight_error:.3f}, it should be 1: the "
            "logged probabilities are not those that chose, or some items could never be shown"
        )
    return reasons


def _said(estimate: OffPolicyEstimate) -> str:
    return (
        f"{estimate.estimator}: {estimate.value:.4g} against {estimate.logged:.4g}, difference "
        f"{estimate.difference:+.3g} ({estimate.difference_low:+.3g} to {estimate.difference_high:+.3g})"
    )


def _weights(choices: LoggedChoices, config: OffPolicyConfig) -> np.ndarray:
    return np.asarray(np.minimum(choices.target / choices.logged, config.largest_weight))


def _estimate(
    name: str, value: float, influence: np.ndarray, choices: LoggedChoices, config: OffPolicyConfig
) -> OffPolicyEstimate:
    """`influence` [R]: what each row moves the value by, times R; its sum over rows is 0."""
    reach = float(ndtri((1 + config.level) / 2))
    logged, weights = float(choices.reward.mean()), _weights(choices, config)
    error = _clustered_error(influence, choices.cluster)
    difference_error = _clustered_error(influence - (choices.reward - logged), choices.cluster)
    difference = value - logged
    return OffPolicyEstimate(
        estimator=name,
        value=value,
        low=value - reach * error,
        high=value + reach * error,
        logged=logged,
        difference=difference,
        difference_low=difference - reach * difference_error,
        difference_high=difference + reach * difference_error,
        effective_rows=float(weights.sum() ** 2 / max((weights**2).sum(), 1e-300)),
        mean_weight=float(weights.mean()),
        mean_weight_error=_clustered_error(weights - weights.mean(), choices.cluster),
        cut=float((choices.target / choices.logged > config.largest_weight).mean()),
    )


def _clustered_error(influence: np.ndarray, cluster: np.ndarray) -> float:
    """Standard error of a mean whose rows are independent between clusters only."""
    _, row = np.unique(cluster, return_inverse=True)
    sums = np.bincount(row, weights=influence)
    groups = len(sums)
    return math.sqrt((sums**2).sum() * groups / (groups - 1)) / len(influence) if groups > 1 else math.inf
