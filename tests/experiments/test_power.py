from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
import pytest
import tea_tasting as tt
from tea_tasting.aggr import Aggregates

from nextpage.experiments.assignment import Experiment
from nextpage.experiments.power import Precision, claim_power, plan, power_gate
from nextpage.experiments.sequential import SequentialConfig
from tests.experiments.logs import by_user, make_rows, make_rule

HALF = Experiment(name="test")
ALONE = {"guardrails": [], "metrics": [{"name": "value per user", "numerator": "value"}]}


def single_look(**settings):
    """One test at the end: what a library without sequential tests plans."""
    return make_rule(**{**ALONE, "promotion_days": 14, **settings})


def test_with_one_look_power_is_what_tea_tasting_plans():
    rule, users = single_look(), 5_000
    precision = Precision(lasting=0.0, passing=14 * 4 * 1.5 / users)  # arms of users ∕ 2, squared variation 1.5
    theirs = tt.Mean("value", rel_effect_size=0.05, n_obs=users, use_t=False, alternative="greater", alpha=rule.alpha)
    (expected,) = theirs.solve_power_from_aggregates(Aggregates(users, {"value": 1.0}, {"value": 1.5}), "power")
    found = claim_power(rule.claims[0], rule, precision, 14, 0.05)
    assert found == pytest.approx(expected.power, abs=1e-6)


def test_a_plan_reads_the_variance_of_the_history():
    rows, rule = make_rows(3_000, 14, seed=1), single_look()
    (found,) = plan(rule, rows, HALF).claims
    value = by_user(rows)["value"]
    theirs = tt.Mean("value", n_obs=len(value), power=0.8, use_t=False, alternative="greater", alpha=rule.alpha)
    (expected,) = theirs.solve_power_from_aggregates(
        Aggregates(len(value), {"value": value.mean()}, {"value": value.var(ddof=1)}), "rel_effect_size"
    )
    assert found.detectable == pytest.approx(expected.rel_effect_size, rel=0.03)


def test_looking_more_often_costs_little_power_and_a_covariate_brings_much():
    rows = make_rows(2_000, 14, seed=2)
    once = plan(single_look(), rows, HALF).claims[0].detectable
    weekly = plan(make_rule(**ALONE), rows, HALF).claims[0].detectable
    daily = plan(make_rule(**ALONE, promotion_days=1), rows, HALF).claims[0].detectable
    forever = (
        plan(
            replace(make_rule(**ALONE, promotion_days=1), sequential=SequentialConfig(design="always_valid")),
            rows,
            HALF,
        )
        .claims[0]
        .detectable
    )
    cuped = plan(make_rule(guardrails=[]), rows, HALF).claims[0].detectable
    assert once <= weekly <= daily <= 1.1 * once
    assert 1.1 * once < forever
    assert cuped < 0.8 * weekly


def test_the_days_that_are_asked_for_are_enough_and_a_week_less_is_not():
    rule = make_rule(**ALONE)
    precision = Precision(lasting=1e-5, passing=0.01)
    needed = next(
        days
        for days in range(7, 365, 7)
        if claim_power(rule.claims[0], rule, precision, days, 0.05) >= rule.claim_power
    )
    assert 14 < needed < 364
    short, enough = (replace(rule, horizon_days=days) for days in (needed - 7, needed))
    assert claim_power(short.claims[0], short, precision, short.horizon_days, 0.05) < rule.claim_power
    assert claim_power(enough.claims[0], enough, precision, enough.horizon_days, 0.05) >= rule.claim_power


def test_an_underpowered_experiment_is_refused_and_told_the_days_it_needs():
    rows = make_rows(1_500, 14, seed=3)
    rule = make_rule(metrics=[{"name": "c", "numerator": "clicks", "denominator": "exposures"}],
                     primary={"metric": "c", "minimum_effect": 0.015}, guardrails=[])  # fmt: skip
    planned = plan(rule, rows, HALF)
    verdict = power_gate(rule, planned)
    assert not verdict.passed
    assert planned.days > 14
    assert f"set horizon_days to {planned.days}" in verdict.reasons[-1]
    longer = replace(rule, horizon_days=planned.days)
    assert power_gate(longer, plan(longer, rows, HALF)).passed


def test_where_users_differ_too_much_no_year_is_long_enough():
    rule = make_rule(**{**ALONE, "primary": {"metric": "value per user", "minimum_effect": 0.001}})
    verdict = power_gate(rule, plan(rule, make_rows(200, 14, seed=4), HALF))
    assert not verdict.passed
    assert "more users" in verdict.reasons[-1]


def test_a_smaller_share_of_the_users_finds_larger_effects_only():
    rows = make_rows(2_000, 14, seed=5)
    full = plan(make_rule(**ALONE), rows, HALF).claims[0].detectable
    tenth = plan(make_rule(**ALONE), rows, Experiment(name="test", share=0.05)).claims[0].detectable
    layer = plan(make_rule(**ALONE), rows, Experiment(name="test", slots=(0, 1_000))).claims[0].detectable
    assert tenth == pytest.approx(full * np.sqrt(10), rel=0.02)
    assert layer == pytest.approx(tenth, rel=1e-3)


def test_the_arms_of_the_history_do_not_matter():
    rows = make_rows(400, 14, seed=6)
    place = rows.column_names.index("arm")
    relabelled = rows.set_column(place, "arm", pc.if_else(pc.equal(rows["arm"], "control"), "treatment", "control"))
    assert plan(make_rule(), rows, HALF) == plan(make_rule(), relabelled, HALF)


def test_a_history_that_is_too_short_or_an_arm_without_users_is_refused():
    with pytest.raises(ValueError, match="the history holds 1 days"):
        plan(make_rule(), make_rows(50, 1, seed=7), HALF)
    with pytest.raises(ValueError, match="an arm without users"):
        plan(make_rule(), make_rows(50, 3, seed=7), Experiment(name="test", share=0.0))
