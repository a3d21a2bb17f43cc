"""Made-up evidence: users of unequal habits, with effects planted in treatment."""

import numpy as np
import pyarrow as pa

from nextpage.experiments.rule import Rule, rule_from


def make_rule(**settings) -> Rule:
    """Value per user must win, clicks per item may not fall by 5%, error rate not rise by half a percent."""
    return rule_from(
        {
            "experiment": "test",
            "metrics": [
                {"name": "value per user", "numerator": "value", "cuped": True},
                {"name": "clicks per item", "numerator": "clicks", "denominator": "exposures"},
                {"name": "errors", "numerator": "errors", "denominator": "requests"},
            ],
            "primary": {"metric": "value per user", "minimum_effect": 0.05},
            "guardrails": [
                {"metric": "clicks per item", "margin": 0.05},
                {"metric": "errors", "direction": "decrease", "margin": 0.005, "absolute": True},
            ],
            "horizon_days": 14,
            "minimum_users": 100,
            "promotion": "auto",
            **settings,
        }
    )


def make_rows(
    users: int = 4_000,
    days: int = 14,
    *,
    seed: int,
    value: float = 0.0,
    clicks: float = 0.0,
    error_rate: tuple[float, float] = (0.001, 0.001),
    treated: np.ndarray | None = None,
) -> pa.Table:
    """`value`, `clicks`: relative effects; `error_rate` of control and treatment."""
    draw = np.random.default_rng(seed)
    if treated is None:
        treated = draw.random(users) < 0.5
    habit, spend = draw.gamma(3.0, 0.4, users), draw.lognormal(1.0, 0.3, users)
    before = draw.poisson(20 * habit) * spend
    requests = draw.poisson(habit[:, None], (users, days))
    user, day = np.nonzero(requests)
    asked, arm = requests[user, day], treated[user]
    exposures = 10 * asked
    return pa.table(
        {
            "user_id": [f"user-{number}" for number in user],
            "arm": np.where(arm, "treatment", "control"),
            "day": (day + 1).astype(np.int32),
            "requests": asked.astype(float),
            "errors": draw.binomial(asked, np.where(arm, error_rate[1], error_rate[0])).astype(float),
            "exposures": exposures.astype(float),
            "clicks": draw.binomial(exposures, 0.1 * (1 + clicks * arm)).astype(float),
            "orders": draw.binomial(asked, 0.3).astype(float),
            "value": draw.gamma(2.0, 0.5, len(user)) * asked * spend[user] * (1 + value * arm),
            "pre_value": before[user],
            "segment_tier": np.where(habit[user] > 1, "often", "seldom"),
        }
    )


def by_user(rows: pa.Table) -> dict[str, np.ndarray]:
    """Totals of each user, straight from the rows: what the library must arrive at by its own way."""
    ids, first, user = np.unique(rows["user_id"].to_numpy(), return_index=True, return_inverse=True)
    figures = ("requests", "errors", "exposures", "clicks", "orders", "value")
    totals = {name: np.bincount(user, weights=rows[name].to_numpy()) for name in figures}
    treated = (rows["arm"].to_numpy() == "treatment")[first]
    return {"user_id": ids, "treated": treated, "pre_value": rows["pre_value"].to_numpy()[first], **totals}
