"""Is the new release broken? The operational gate of minutes, before the experiment of days.

Counted are requests of each arm that went wrong: errors, fallbacks, empty slates, slates that invalid items had to be
left out of, answers over the time limit. Of all that went wrong, the share that fell on the new release tells whether
it is to blame: where it is at most `tolerance` times as likely to fail as control, and has the share s of the
requests, that share is at most

    p₀ = s·tolerance ∕ (s·tolerance + 1 − s)

An e-value bets against it, by mixing over all larger shares evenly. It grows to 1 ∕ α at most α of the time, however
often one looks and whenever one stops (Ville; Ramdas et al. 2023, "Game-theoretic statistics and safe anytime-valid
inference"). What harms both arms, a feature store that is down, is nobody's fault and stops nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scipy.special import betaincc, betaln

from nextpage.experiments.gate import HOLD, PROMOTE, ROLLBACK


@dataclass(frozen=True, kw_only=True)
class CanaryConfig:
    """`alpha`: of each kind of failure; `requests`: that each arm must have answered before the canary has passed.
    `worst`: share of treatment's requests that may go wrong in any one way whatever control does."""

    tolerance: float = 1.5
    alpha: float = 0.001
    requests: int = 1_000
    worst: float = 0.1

    def __post_init__(self) -> None:
        if self.tolerance < 1 or not 0 < self.alpha < 1 or not 0 < self.worst <= 1 or self.requests < 1:
            raise ValueError(f"{self} cannot be: tolerance is at least 1, alpha and worst are shares, requests count")


@dataclass(frozen=True, kw_only=True)
class Answered:
    """Requests that an arm answered since the canary began, and of them how many went wrong in each way."""

    requests: int
    failures: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class CanaryDecision:
    """PROMOTE: on to the experiment; HOLD: wait; ROLLBACK. `reasons` are sentences, `evidence` the e-values."""

    verdict: str
    reasons: tuple[str, ...]
    evidence: Mapping[str, float]


def judge_canary(control: Answered, treatment: Answered, config: CanaryConfig) -> CanaryDecision:
    """Of counts since the canary began, at one share of the traffic. Raises ValueError where the arms count different
    failures."""
    if set(control.failures) != set(treatment.failures):
        raise ValueError(f"control counts {sorted(control.failures)}, treatment {sorted(treatment.failures)}")
    requests = control.requests + treatment.requests
    share = treatment.requests / requests if requests else 0.5
    evidence = {
        name: e_value(count, control.failures[name], share, config.tolerance)
        for name, count in treatment.failures.items()
    }
    broken = []
    for name, count in treatment.failures.items():
        found = (
            f"{name}: {count:,} of {treatment.requests:,}, control {control.failures[name]:,} of {control.requests:,}"
        )
        if evidence[name] >= 1 / config.alpha:
            broken.append(f"{found}: more than {config.tolerance:g} times as often (e-value {evidence[name]:.3g})")
        elif treatment.requests >= config.requests and count > config.worst * treatment.requests:
            broken.append(f"{found}: more than {config.worst:.0%}, whatever control does")
    if broken:
        return CanaryDecision(verdict=ROLLBACK, reasons=tuple(broken), evidence=evidence)
    answered = f"{treatment.requests:,} requests answered by the new release, {control.requests:,} by control"
    if min(control.requests, treatment.requests) < config.requests:
        waiting = f"{answered}: each must have answered {config.requests:,}"
        return CanaryDecision(verdict=HOLD, reasons=(waiting,), evidence=evidence)
    return CanaryDecision(verdict=PROMOTE, reasons=(f"{answered}, no sign of harm",), evidence=evidence)


def e_value(treatment: int, control: int, share: float, tolerance: float) -> float:
    """Against "of these failures, the new release's share is at most p₀": ∫ pˣ(1 − p)ᵐ dp over p > p₀, by its mean
    over that range, ∕ p₀ˣ(1 − p₀)ᵐ, for x failures of treatment and m of control."""
    if not 0 < share < 1:
        return 1.0
    bound = share * tolerance / (share * tolerance + 1 - share)
    beyond = float(betaincc(treatment + 1, control + 1, bound))
    if beyond == 0.0:
        return 0.0
    mixed = betaln(treatment + 1, control + 1) + math.log(beyond) - math.log1p(-bound)
    return math.exp(min(700.0, mixed - treatment * math.log(bound) - control * math.log1p(-bound)))
