"""How far an estimate must be from nothing when it is looked at again and again: critical values for z, one-sided.

A test statistic over accumulating data is a Brownian motion seen at its information I = 1 ∕ standard error²: z at I
has mean effect·√I, and corr(z₁, z₂) = √(I₁ ∕ I₂). Both designs say for each look what z must reach; the chance that
any look does so without an effect is at most α.

- *group*: α is spent over the looks as a function of the days gone by, all of it by the horizon (Lan and DeMets 1983;
  by calendar time, 1989). Looks need not be evenly spaced or planned, but the horizon must be. What is spent late
  leaves the last test almost as strong as a single one.
- *always_valid*: a confidence sequence, by mixing over effects (Robbins' normal mixture, mSPRT; one-sided and
  asymptotic: Waudby-Smith et al. 2024, "Time-uniform central limit theory and asymptotic confidence sequences"). It
  needs no horizon, and pays for that in power.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, roots_legendre

DESIGNS = ("group", "always_valid")
LARGEST = 8.0  # critical values above are infinite: what they would spend, 1e-15, is left to the next look
REACH = 6.5  # deviations about the mean that are integrated: 8e-11 lies outside
SIZES = tuple(int(32 * 2 ** (half / 2)) for half in range(11))  # of integration grids, 32 to 1,024
SMALLEST_STEP = 0.005  # of the information, from look to look: smaller steps are taken as this, which is the safer way


@dataclass(frozen=True, kw_only=True)
class SequentialConfig:
    """`spending` is of the group design: obrien_fleming spends late, pocock evenly."""

    design: str = "group"
    spending: str = "obrien_fleming"

    def __post_init__(self) -> None:
        if self.design not in DESIGNS:
            raise ValueError(f"no sequential design is named {self.design!r}: use {' or '.join(DESIGNS)}")
        if self.spending not in SPENDING:
            raise ValueError(f"no spending function is named {self.spending!r}: use {' or '.join(SPENDING)}")


def obrien_fleming(fraction: np.ndarray, alpha: float) -> np.ndarray:
    """Of the O'Brien–Fleming type: 2 − 2Φ(z₁₋α⸝₂ ∕ √t)."""
    return np.asarray(2 * ndtr(ndtri(alpha / 2) / np.sqrt(fraction)))


def pocock(fraction: np.ndarray, alpha: float) -> np.ndarray:
    """Of the Pocock type: α ln(1 + (e − 1) t)."""
    return np.asarray(alpha * np.log1p((math.e - 1) * fraction))


SPENDING: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {"obrien_fleming": obrien_fleming, "pocock": pocock}


def critical_values(
    information: Sequence[float] | np.ndarray,
    fraction: Sequence[float] | np.ndarray,
    alpha: float,
    planned_information: float,
    config: SequentialConfig,
) -> np.ndarray:
    """What z must reach at each of K looks, float64 [K].

    `information` [K], > 0; `fraction` [K]: of the horizon, growing, at most 1. `planned_information`: at which an
    always-valid test is to be the strongest; the group design does not read it.
    """
    if config.design == "always_valid":
        return always_valid_bounds(information, alpha, planned_information)
    return group_sequential_bounds(information, SPENDING[config.spending](np.asarray(fraction, dtype=float), alpha))


def always_valid_bounds(
    information: Sequence[float] | np.ndarray, alpha: float, planned_information: float
) -> np.ndarray:
    """√(2 (1 + 1∕v) ln(1 + √(1 + v) ∕ 2α)) with v = I·ρ², and ρ² so that the bound is tightest about
    `planned_information`: v = −2 ln 2α + ln(−2 ln 2α) + 1 there. Valid however often and however long one looks."""
    tightest = -2 * math.log(2 * alpha) + math.log(-2 * math.log(2 * alpha)) + 1
    v = np.asarray(information, dtype=float) / planned_information * tightest
    return np.asarray(np.sqrt(2 * (1 + 1 / v) * np.log1p(np.sqrt(1 + v) / (2 * alpha))))


def group_sequential_bounds(
    information: Sequence[float] | np.ndarray, spent: Sequence[float] | np.ndarray
) -> np.ndarray:
    """Critical values b such that P(z₁ ≥ b₁ or … or zₖ ≥ bₖ) is `spent` [K] after each look, without an effect.

    By recursive integration (Armitage, McPherson, Rowe 1969). Cost: some 0.3 ms a look.
    """
    walk = _Walk(drift=0.0)
    bounds = np.empty(len(spent))
    so_far = 0.0
    for look, level in enumerate(_growing(information)):
        walk.advance(level)
        due = float(spent[look]) - so_far
        if walk.crossing(LARGEST) >= due:
            bounds[look] = np.inf
        else:
            bounds[look] = brentq(lambda bound, due=due: walk.crossing(bound) - due, -LARGEST, LARGEST, xtol=1e-9)
        so_far += walk.stop_above(bounds[look])
    return bounds


def crossing_probabilities(
    information: Sequence[float] | np.ndarray, bounds: Sequence[float] | np.ndarray, effect: float
) -> np.ndarray:
    """The chance that z first reaches its bound at each look, [K], where the true effect is `effect` standard units,
    so that z has mean effect·√I. Their sum is the power."""
    walk = _Walk(drift=effect)
    chances = []
    for level, bound in zip(_growing(information), bounds, strict=True):
        walk.advance(level)
        chances.append(walk.stop_above(float(bound)))
    return np.array(chances)


class _Walk:
    """The density of the score S = z√I of those who have not been stopped, on nodes for integration."""

    def __init__(self, drift: float) -> None:
        self._drift = drift
        self._information = 0.0
        self._nodes, self._mass = np.zeros(1), np.ones(1)  # mass: density × weight, at the look before
        self._mean, self._deviation = np.zeros(1), 0.0  # of the score now, from each node
        self._stopped_from = math.inf

    def advance(self, information: float) -> None:
        """To the next look's information."""
        step = information - self._information
        if self._information:
            self._lay_nodes(spacing=min(self._deviation, math.sqrt(step)) / 2)  # errors of about 1e-8
        self._mean = self._nodes + self._drift * step
        self._deviation = math.sqrt(step)
        self._information = information

    def crossing(self, bound: float) -> float:
        """The chance to be at z ≥ bound now, not having been stopped before."""
        score = bound * math.sqrt(self._information)
        return float(self._mass @ ndtr((self._mean - score) / self._deviation))

    def stop_above(self, bound: float) -> float:
        """Stop those at z ≥ bound, and return their share."""
        self._stopped_from = bound * math.sqrt(self._information)
        return self.crossing(bound) if math.isfinite(bound) else 0.0

    def _lay_nodes(self, spacing: float) -> None:
        """Put the density of those who go on onto nodes of its own."""
        centre, reach = self._drift * self._information, REACH * math.sqrt(self._information)
        low, high = centre - reach, min(self._stopped_from, centre + reach)
        if high <= low:  # nobody goes on
            self._nodes, self._mass = np.array([low]), np.zeros(1)
            return
        unit_nodes, unit_weights = _gauss(int(np.searchsorted(SIZES, (high - low) / spacing)))
        nodes, weights = low + (high - low) * (unit_nodes + 1) / 2, unit_weights * (high - low) / 2
        kernel = np.exp(-0.5 * ((nodes[:, None] - self._mean) / self._deviation) ** 2)  # [nodes now, nodes before]
        self._nodes, self._mass = nodes, weights * (kernel @ self._mass) / (math.sqrt(2 * math.pi) * self._deviation)


@cache
def _gauss(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss and Legendre on −1 to 1, SIZES[size] of them."""
    nodes, weights = roots_legendre(SIZES[size])
    return np.asarray(nodes), np.asarray(weights)


def _growing(information: Sequence[float] | np.ndarray) -> np.ndarray:
    """Grown by at least SMALLEST_STEP a look. Heavy tails can take information away for a while; to count a step where
    there was none makes the bounds wider, never narrower."""
    levels = np.asarray(information, dtype=float)
    if not (np.isfinite(levels).all() and (levels > 0).all()):
        raise ValueError(f"information {levels} must be positive and finite at every look")
    grown = levels.copy()
    for look in range(1, len(grown)):
        grown[look] = max(grown[look], grown[look - 1] * (1 + SMALLEST_STEP))
    return grown
