"""How often the A/B gate is wrong, and how many days it takes to be right, against a t-test repeated every day.

    python benchmarks/gate.py [--simulations 1000] [--users 250000] [--days 28] [--panel synthetic|households]

Synthetic panels have users of unequal habits (gamma), who spend log-normal amounts (σ = 1.2 an order, 0.6 a user): the
hundredth of the users who spend most bring 13% of the value. Every panel is split into arms at random 50
times; a planted effect multiplies treatment's value, or its clicks. Panels of `households` have as many users drawn,
with replacement, from the households of The Complete Journey, each with all that it really bought in four weeks and,
for CUPED, in the four before; planted effects on top.

The rule: value per user (CUPED by the four weeks before) must win, clicks per item may not fall by 2%. Verdicts are
taken at the end of every day. Estimates are computed for all splits at once; tests hold them equal to the gate's own.
Seeds: 0, 1, 2, … a panel. After each share: its 95% interval (Clopper–Pearson); days are medians.
"""

import argparse
import sys
import time
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pyarrow as pa
from scipy.stats import binomtest, chi2, norm
from tqdm import tqdm

from nextpage.experiments.assignment import Experiment
from nextpage.experiments.power import plan, power_gate
from nextpage.experiments.rule import Claim, Rule, rule_from
from nextpage.experiments.sequential import SequentialConfig, critical_values

SPLITS = 50  # of one panel
FEATURES = ("n", "y", "yy", "yx", "x", "xx", "d", "dd", "c", "cc", "cd")
SCENARIOS = {  # effect on value, on clicks
    "no effect": (0.0, 0.0),
    "value −2%": (-0.02, 0.0),
    "value −5%": (-0.05, 0.0),
    "value +2%": (0.02, 0.0),
    "value +5%, clicks −2%": (0.05, -0.02),
    "value +5%, clicks −5%": (0.05, -0.05),
}
SHOWN, HARMED = 1, -1


@dataclass(frozen=True)
class Panel:
    """Float64 [U, D] a day: items shown, clicks, value; `before` [U]: value of the days before."""

    exposures: np.ndarray
    clicks: np.ndarray
    value: np.ndarray
    before: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=1_000)
    parser.add_argument("--users", type=int, default=250_000, help="100,000 give the households the same power")
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--panel", choices=list(PANELS), default="synthetic")
    args = parser.parse_args()
    began = time.perf_counter()
    rule = make_rule(args.days)
    designs = {
        "gate: promotion each week": rule,
        "gate: promotion each day": replace(rule, promotion_days=1),
        "gate: Pocock, each day": replace(rule, promotion_days=1, sequential=SequentialConfig(spending="pocock")),
        "gate: always valid, each day": replace(
            rule, promotion_days=1, sequential=SequentialConfig(design="always_valid")
        ),
    }
    outcomes: dict[tuple[str, str], list[np.ndarray]] = {}
    invalid = 0
    for seed in tqdm(range(-(-args.simulations // SPLITS)), "panels", disable=not sys.stderr.isatty()):
        panel = PANELS[args.panel](args.users, args.days, seed)
        if seed == 0:
            print(describe(panel, rule))
        splits = min(SPLITS, args.simulations - seed * SPLITS)
        treated = np.random.default_rng([seed, 1]).random((splits, len(panel.before))) < 0.5
        treatment, control = sums(panel, treated)
        invalid += int(mismatch(treatment["n"], control["n"], rule).any(axis=1).sum())
        on_value = {effect: value_test(treatment, control, effect) for effect, _ in SCENARIOS.values()}
        on_clicks = {effect: clicks_test(treatment, control, effect, rule) for _, effect in SCENARIOS.values()}
        for scenario, (value, _) in SCENARIOS.items():
            outcomes.setdefault(("t-test each day", scenario), []).append(naive(on_value[value][0], rule))
        for design, used in designs.items():
            by_value = {effect: reached(test, rule.claims[0], used) for effect, test in on_value.items()}
            by_clicks = {effect: reached(test, rule.claims[1], used) for effect, test in on_clicks.items()}
            for scenario, (value, clicks) in SCENARIOS.items():
                outcomes.setdefault((design, scenario), []).append(verdicts(by_value[value], by_clicks[clicks]))
    table(outcomes, rule)
    print(f"INVALID without cause (χ² p < {rule.sample_ratio_alpha:g}, daily): {share(invalid, args.simulations)}")
    print(f"{args.simulations:,} simulations, {time.perf_counter() - began:.0f} s")


def make_rule(days: int) -> Rule:
    return rule_from(
        {
            "experiment": "benchmark",
            "metrics": [
                {"name": "value per user", "numerator": "value", "cuped": True},
                {"name": "clicks per item", "numerator": "clicks", "denominator": "exposures"},
            ],
            "primary": {"metric": "value per user", "minimum_effect": 0.02},
            "guardrails": [{"metric": "clicks per item", "margin": 0.02}],
            "horizon_days": days,
            "promotion": "auto",
        }
    )


def synthetic(users: int, days: int, seed: int) -> Panel:
    draw = np.random.default_rng([seed, 0])
    visits_a_day = draw.gamma(0.8, 0.6 / 0.8, users)
    spend = draw.lognormal(3.0, 0.6, users)
    click_rate = draw.beta(4, 36, users)
    visits = draw.poisson(visits_a_day[:, None], (users, days))
    exposures = 10 * visits
    clicks = draw.binomial(exposures, click_rate[:, None])
    orders = draw.binomial(visits, 0.3)
    before = draw.poisson(0.3 * days * visits_a_day)
    return Panel(
        exposures=exposures.astype(float),
        clicks=clicks.astype(float),
        value=_spent(orders.ravel(), draw).reshape(users, days) * spend[:, None],
        before=_spent(before, draw) * spend,
    )


def _spent(orders: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """The sum of as many log-normal amounts."""
    amounts = draw.lognormal(0.0, 1.2, int(orders.sum()))
    return np.bincount(np.repeat(np.arange(len(orders)), orders), weights=amounts, minlength=len(orders))


def households(users: int, days: int, seed: int) -> Panel:
    """Users who each bought what a household did, day by day: households are drawn, not days, so that habits stay."""
    everyone = shoppers(days)
    drawn = np.random.default_rng([seed, 0]).integers(0, len(everyone.before), users)
    return Panel(**{name: values[drawn] for name, values in vars(everyone).items()})


@cache
def shoppers(days: int) -> Panel:
    """The households. Baskets of the last days before Christmas 2017 and, for CUPED, of as many days before; items
    bought count as shown, and as clicked where they were bought at a discount."""
    import duckdb

    from nextpage.interactions.complete_journey import package_files

    rows = duckdb.read_parquet(str(package_files() / "transactions.parquet"))
    daily = duckdb.sql(f"""
        select household_id, date_diff('day', date '2017-12-20', transaction_timestamp::date) + 2 * {days} as day,
               count(*) as items, count(*) filter (retail_disc > 0) as discounted, sum(sales_value) as value
        from rows group by all having day between 1 and 2 * {days}
    """).fetchnumpy()
    assert rows is not None
    ids, user = np.unique(daily["household_id"], return_inverse=True)
    whole = np.zeros((3, len(ids), 2 * days))
    for place, name in enumerate(("items", "discounted", "value")):
        whole[place, user, daily["day"] - 1] = daily[name]
    now = whole[:, :, days:]
    return Panel(exposures=now[0], clicks=now[1], value=now[2], before=whole[2, :, :days].sum(axis=1))


PANELS = {"synthetic": synthetic, "households": households}


def sums(panel: Panel, treated: np.ndarray) -> tuple["Sums", "Sums"]:
    """Over the users of treatment and of control: of their totals to the end of each day, and of products of these."""
    weights = treated.astype(np.float64)
    parts = {name: np.empty((2, len(treated), panel.value.shape[1])) for name in FEATURES}
    y, d, c = np.zeros((3, len(panel.before)))
    seen = np.zeros(len(panel.before), dtype=bool)
    for day in range(panel.value.shape[1]):
        y, d, c = y + panel.value[:, day], d + panel.exposures[:, day], c + panel.clicks[:, day]
        seen |= panel.exposures[:, day] > 0
        x = panel.before * seen
        features = np.stack([seen, y, y * y, y * x, x, x * x, d, d * d, c, c * c, c * d], axis=1)
        inside, whole = weights @ features, features.sum(axis=0)
        for place, name in enumerate(FEATURES):
            parts[name][0, :, day] = inside[:, place]
            parts[name][1, :, day] = whole[place] - inside[:, place]
    return {name: both[0] for name, both in parts.items()}, {name: both[1] for name, both in parts.items()}


Sums = dict[str, np.ndarray]  # by name of FEATURES, [S, D]
Test = tuple[np.ndarray, np.ndarray]  # z and information, [S, D] each


def value_test(treatment: Sums, control: Sums, effect: float) -> Test:
    """Of mean y against control's, adjusted by x with the coefficient of both arms together."""
    treatment = {name: values * (1 + effect) ** name.count("y") for name, values in treatment.items()}
    both = {name: treatment[name] + control[name] for name in FEATURES}
    slope = covariance(both, "y", "x") / covariance(both, "x", "x")
    middle = both["x"] / both["n"]
    means, errors = [], []
    for arm in (treatment, control):
        means.append(arm["y"] / arm["n"] - slope * (arm["x"] / arm["n"] - middle))
        spread = (
            covariance(arm, "y", "y") + slope**2 * covariance(arm, "x", "x") - 2 * slope * covariance(arm, "y", "x")
        )
        errors.append(spread / arm["n"])
    error = np.sqrt(errors[0] + errors[1])
    return (means[0] - means[1]) / error, (means[1] / error) ** 2


def clicks_test(treatment: Sums, control: Sums, effect: float, rule: Rule) -> Test:
    """Of Σ c ∕ Σ d against control's less the margin, by the delta method."""
    treatment = {name: values * (1 + effect) ** name.count("c") for name, values in treatment.items()}
    kept = 1 - rule.guardrails[0].margin
    rates, errors = [], []
    for arm in (treatment, control):
        rate = arm["c"] / arm["d"]
        spread = covariance(arm, "c", "c") - 2 * rate * covariance(arm, "c", "d") + rate**2 * covariance(arm, "d", "d")
        rates.append(rate)
        errors.append(spread / arm["n"] / (arm["d"] / arm["n"]) ** 2)
    error = np.sqrt(errors[0] + kept**2 * errors[1])
    return (rates[0] - kept * rates[1]) / error, (kept * rates[1] / error) ** 2


def covariance(arm: dict[str, np.ndarray], first: str, second: str) -> np.ndarray:
    return (arm[first + second] - arm[first] * arm[second] / arm["n"]) / (arm["n"] - 1)


def reached(test: Test, claim: Claim, rule: Rule) -> np.ndarray:
    """1 where the claim is shown, −1 where harm is, 0 else; int64 [S, D]."""
    days = np.arange(1, rule.horizon_days + 1)
    asked = days % rule.promotion_days == 0
    planned, fraction = rule.planned_information(claim), days / rule.horizon_days
    found = np.zeros(test[0].shape, dtype=np.int64)
    for row, z, information in zip(found, *test, strict=True):
        to_show = critical_values(information[asked], fraction[asked], rule.alpha, planned, rule.sequential)
        row[np.flatnonzero(asked)[z[asked] >= to_show]] = SHOWN
        row[z <= -critical_values(information, fraction, rule.harm_alpha, planned, rule.sequential)] = HARMED
    return found


def verdicts(value: np.ndarray, clicks: np.ndarray) -> np.ndarray:
    """The first day's verdict that is not HOLD, and that day; int64 [S, 2]. 0 where the horizon came before."""
    worse, better = (value == HARMED) | (clicks == HARMED), (value == SHOWN) & (clicks == SHOWN)
    return np.array([first_of(*split) for split in zip(worse, better, strict=True)])


def naive(z: np.ndarray, rule: Rule) -> np.ndarray:
    """The same levels for every day's test, as though it were the only one."""
    better, worse = z >= norm.isf(rule.alpha), z <= -norm.isf(rule.harm_alpha)
    return np.array([first_of(*split) for split in zip(worse, better, strict=True)])


def first_of(worse: np.ndarray, better: np.ndarray) -> tuple[int, int]:
    decided = np.flatnonzero(worse | better)
    if not len(decided):
        return 0, len(worse)
    return (SHOWN if better[decided[0]] else HARMED), int(decided[0]) + 1


def mismatch(treatment: np.ndarray, control: np.ndarray, rule: Rule) -> np.ndarray:
    """Where the χ² test of equal arms fails, bool [S, D]."""
    return np.asarray((treatment - control) ** 2 / (treatment + control) > chi2.isf(rule.sample_ratio_alpha, 1))


def describe(panel: Panel, rule: Rule) -> str:
    """The panel, and what the power gate says of an experiment on half of it for each arm."""
    total = np.sort(panel.value.sum(axis=1))
    top = total[-len(total) // 100 :].sum() / total.sum()
    verdict = power_gate(rule, plan(rule, as_rows(panel), Experiment(name=rule.experiment)))
    return (
        f"{len(total):,} users, {panel.value.shape[1]} days; the top hundredth brings {top:.0%} of the value; "
        f"power gate {'passed' if verdict.passed else 'FAILED'}: {'; '.join(verdict.reasons)}"
    )


def as_rows(panel: Panel, treated: np.ndarray | None = None) -> pa.Table:
    """The panel in the gate's own form; `treated` bool [U]."""
    user, day = np.nonzero(panel.exposures)
    arm = np.zeros(len(panel.before), dtype=bool) if treated is None else treated
    return pa.table(
        {
            "user_id": user.astype(str),
            "arm": np.where(arm[user], "treatment", "control"),
            "day": (day + 1).astype(np.int32),
            "exposures": panel.exposures[user, day],
            "clicks": panel.clicks[user, day],
            "value": panel.value[user, day],
            "pre_value": panel.before[user],
        }
    )


def table(outcomes: dict[tuple[str, str], list[np.ndarray]], rule: Rule) -> None:
    print(f"\npromotion α {rule.alpha:g} one-sided, harm α {rule.harm_alpha:g} one-sided, {rule.horizon_days} days")
    for scenario in SCENARIOS:
        print(f"\n{scenario:<30} {'promoted':>26} {'days':>5} {'rolled back as harmful':>26} {'days':>5}")
        for (design, of), parts in outcomes.items():
            if of == scenario:
                found = np.concatenate(parts)
                cells = [_cell(found, outcome) for outcome in (SHOWN, HARMED)]
                print(f"{design:<30} " + " ".join(f"{said:>26} {day:>5}" for said, day in cells))
    print()


def _cell(found: np.ndarray, outcome: int) -> tuple[str, str]:
    days = found[found[:, 0] == outcome, 1]
    return share(len(days), len(found)), f"{np.median(days):.0f}" if len(days) else "–"


def share(count: int, of: int) -> str:
    interval = binomtest(count, of).proportion_ci()
    return f"{count / of:.1%} ({interval.low:.1%} to {interval.high:.1%})"


if __name__ == "__main__":
    main()
