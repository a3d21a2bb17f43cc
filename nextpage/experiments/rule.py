"""The rule of an experiment, written before it starts, and the hash that shows it was not changed since.

    experiment: two-tower-out
    metrics:
      - {name: value per user, numerator: value, cuped: true}
      - {name: clicks per item, numerator: clicks, denominator: exposures}
      - {name: slow requests, numerator: slow, denominator: requests}
    primary: {metric: value per user, minimum_effect: 0.02}
    guardrails:
      - {metric: clicks per item, margin: 0.02}
      - {metric: slow requests, direction: decrease, margin: 0.002, absolute: true}
    horizon_days: 28
    promotion: approval

What is left out keeps the defaults below. The release ships where the primary metric wins, every guardrail is shown to
be no worse than its margin, and no check of quality fails. Every guardrail must hold, so α is not split over them;
power is (Schultzberg et al. 2024, "Risk-aware product decisions in A/B tests with multiple metrics").
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from scipy.stats import norm

from nextpage.experiments.sequential import SequentialConfig
from nextpage.recipes.recipe import Recipe

DIRECTIONS = ("increase", "decrease")
PROMOTIONS = ("approval", "auto")
PRIMARY = "primary"
GUARDRAIL = "guardrail"

Part = TypeVar("Part")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """Σ numerator ∕ Σ denominator over users, or Σ numerator a user without one. `cuped`: adjusted by the same figure
    before the experiment, from the `pre_` columns."""

    name: str
    numerator: str
    denominator: str | None = None
    cuped: bool = False

    @property
    def measures(self) -> tuple[str, ...]:
        return (self.numerator,) if self.denominator is None else (self.numerator, self.denominator)


@dataclass(frozen=True, kw_only=True)
class Primary:
    """`minimum_effect`: the smallest relative change that is worth having; power is counted for it."""

    metric: str
    minimum_effect: float
    direction: str = "increase"


@dataclass(frozen=True, kw_only=True)
class Guardrail:
    """`margin`: how much worse is borne, relative to control, or where `absolute`, in the metric's own unit: for rates
    near 0, of which a share says little."""

    metric: str
    margin: float
    direction: str = "increase"
    absolute: bool = False


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What is to be shown of a metric: that treatment is better than control less the margin. `effect`: the distance
    between what is hoped for and what is refuted, for which power is counted."""

    metric: Metric
    role: str
    direction: str
    margin: float
    absolute: bool
    effect: float


@dataclass(frozen=True, kw_only=True)
class Rule:
    """`alpha`: the chance, one-sided and over all looks, that a release without effect is promoted; `harm_alpha`: that
    one without effect is rolled back as harmful before the horizon. `power`: that one with the minimum effect is
    promoted. Harm is looked for every day, promotion every `promotion_days` (whole weeks) and on the last day.
    `minimum_users`: of each arm, before anything is tested. `treatment_share`: of the analysed users.
    """

    experiment: str
    metrics: tuple[Metric, ...]
    primary: Primary
    guardrails: tuple[Guardrail, ...] = ()
    horizon_days: int = 28
    alpha: float = 0.025
    harm_alpha: float = 0.05
    power: float = 0.8
    sequential: SequentialConfig = field(default_factory=SequentialConfig)
    promotion_days: int = 7
    minimum_users: int = 500
    treatment_share: float = 0.5
    sample_ratio_alpha: float = 0.001
    most_contaminated: float = 0.01
    promotion: str = "approval"
    segments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [metric.name for metric in self.metrics]
        if len(set(names)) < len(names):
            raise ValueError(f"two metrics have one name: {', '.join(names)}")
        asked: tuple[Primary | Guardrail, ...] = (self.primary, *self.guardrails)
        for one in asked:
            if one.metric not in names:
                raise ValueError(f"no metric is named {one.metric!r}: the rule has {', '.join(names)}")
            if one.direction not in DIRECTIONS:
                raise ValueError(f"direction {one.direction!r} of {one.metric!r}: use {' or '.join(DIRECTIONS)}")
        for guardrail in self.guardrails:
            if guardrail.absolute and self.metric(guardrail.metric).denominator is None:
                raise ValueError(f"the absolute margin of {guardrail.metric!r} grows by the day: name a denominator")
        if self.promotion not in PROMOTIONS:
            raise ValueError(f"promotion {self.promotion!r}: use {' or '.join(PROMOTIONS)}")
        self._check_figures()

    def _check_figures(self) -> None:
        for name in ("alpha", "harm_alpha", "power", "treatment_share", "sample_ratio_alpha", "most_contaminated"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must lie between 0 and 1")
        for name in ("horizon_days", "promotion_days", "minimum_users"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        for said, effect in [
            (f"minimum_effect of {self.primary.metric!r}", self.primary.minimum_effect),
            *((f"margin of {guardrail.metric!r}", guardrail.margin) for guardrail in self.guardrails),
        ]:
            if not 0 < effect < 1:
                raise ValueError(f"{said} is {effect}: it must lie between 0 and 1")
        if self.horizon_days % self.promotion_days:
            raise ValueError(
                f"a horizon of {self.horizon_days} days is no multiple of promotion_days {self.promotion_days}: "
                "on its last day nothing could be promoted"
            )

    def metric(self, name: str) -> Metric:
        return next(metric for metric in self.metrics if metric.name == name)

    @property
    def claims(self) -> tuple[Claim, ...]:
        """The primary metric's, that it wins; then the guardrails', that they are not inferior."""
        primary = self.primary
        return (
            Claim(
                metric=self.metric(primary.metric),
                role=PRIMARY,
                direction=primary.direction,
                margin=0.0,
                absolute=False,
                effect=primary.minimum_effect,
            ),
            *(
                Claim(
                    metric=self.metric(guardrail.metric),
                    role=GUARDRAIL,
                    direction=guardrail.direction,
                    margin=guardrail.margin,
                    absolute=guardrail.absolute,
                    effect=guardrail.margin,
                )
                for guardrail in self.guardrails
            ),
        )

    @property
    def claim_power(self) -> float:
        """Of each claim, so that all hold together with `power`: 1 − (1 − power) ∕ claims."""
        return 1 - (1 - self.power) / (1 + len(self.guardrails))

    def planned_information(self, claim: Claim) -> float:
        """At which one look would have that power: ((z of α + z of power) ∕ effect)²."""
        return float(((norm.isf(self.alpha) + norm.ppf(self.claim_power)) / claim.effect) ** 2)

    def is_promotion_day(self, day: int) -> bool:
        return day % self.promotion_days == 0

    @property
    def hash(self) -> str:
        """SHA-256 of all settings, defaults too: a default that changes later does not change a rule unseen."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def to_yaml(self) -> str:
        return yaml.safe_dump(json.loads(json.dumps(asdict(self))), sort_keys=False, allow_unicode=True)


def read_rule(path: Path) -> Rule:
    """A rule from a YAML file."""
    return parse_rule(path.read_text())


def parse_rule(text: str) -> Rule:
    """A rule from YAML text. Raises ValueError for a setting that is unknown, missing or of another type."""
    raw = yaml.safe_load(text)
    if not isinstance(raw, dict):
        raise ValueError(f"the rule is no mapping, it begins {text[:60]!r}: see nextpage/experiments/rule.py")
    return rule_from(raw)


def rule_from(raw: Mapping[str, Any]) -> Rule:
    """A rule from what its YAML or JSON holds."""
    parts = {
        "metrics": _several(Metric, raw.get("metrics"), "metrics"),
        "primary": _one(Primary, raw.get("primary"), "primary"),
        "guardrails": _several(Guardrail, raw.get("guardrails", ()), "guardrails"),
    }
    return _one(Rule, {**raw, **parts}, "rule")


def _several(kind: type[Part], raw: Any, place: str) -> tuple[Part, ...]:
    if not isinstance(raw, Sequence) or isinstance(raw, str):
        raise ValueError(f"{place} of the rule is {raw!r}: it must be a list")
    return tuple(_one(kind, settings, place) for settings in raw)


def _one(kind: type[Part], raw: Any, place: str) -> Part:
    if not isinstance(raw, Mapping):
        raise ValueError(f"{place} of the rule is {raw!r}: it must be a mapping")
    try:
        return Recipe(name="experiment", sections={place: dict(raw)}).part(place, kind)
    except TypeError as error:  # a setting without default is missing
        raise ValueError(f"{place} of the rule is incomplete: {error}") from error
