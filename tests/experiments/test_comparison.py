import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import tea_tasting as tt
from scipy.stats import norm
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from nextpage.experiments.comparison import Comparison, compare
from nextpage.experiments.rule import Claim, Metric
from nextpage.experiments.summary import Look, moments, summarise
from tests.experiments.logs import by_user, make_rows, make_rule

RULE = make_rule()


def claim(metric: str, **settings) -> Claim:
    wanted = {"role": "guardrail", "direction": "increase", "margin": 0.0, "absolute": False, "effect": 0.05}
    return Claim(metric=RULE.metric(metric), **{**wanted, **settings})


def compared(rows, claim: Claim) -> Comparison:
    summary = summarise(rows, RULE, 14)
    found = compare(claim, summary.looks[-1], summary.columns)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def rows():
    return make_rows(1_500, seed=11, value=0.1, clicks=0.05)


@pytest.mark.parametrize(("metric", "denominator", "covariate"), [
    ("value per user", None, "pre_value"),
    ("clicks per item", "exposures", None),
    ("errors", "requests", None),
])  # fmt: skip
def test_a_comparison_is_the_one_tea_tasting_makes_of_the_users_themselves(rows, metric, denominator, covariate):
    users = by_user(rows)
    numerator = RULE.metric(metric).numerator
    columns = [name for name in (numerator, denominator, covariate) if name]
    table = {name: users[name] for name in columns} | {"variant": users["treated"].astype(int)}
    experiment = tt.Experiment(m=tt.RatioOfMeans(numerator, denominator, covariate, equal_var=False, use_t=False))
    theirs = experiment.analyze(pa.table(table), control=0)["m"]
    ours = compared(rows, claim(metric))
    assert ours.control == pytest.approx(theirs.control)
    assert ours.treatment == pytest.approx(theirs.treatment)
    assert ours.z == pytest.approx(theirs.statistic)
    reach = norm.isf(0.025)
    bounds = (theirs.rel_effect_size_ci_lower, theirs.rel_effect_size_ci_upper)
    assert ours.relative_interval(reach, reach) == pytest.approx(bounds)
    assert ours.absolute_interval(reach, reach) == pytest.approx(
        (theirs.effect_size_ci_lower, theirs.effect_size_ci_upper)
    )


def test_without_covariate_a_mean_is_compared_as_statsmodels_does(rows):
    users = by_user(rows)
    parts = [DescrStatsW(users["value"][users["treated"] == side]) for side in (True, False)]
    z, _ = CompareMeans(*parts).ztest_ind(usevar="unequal")
    plain = replace(claim("value per user"), metric=Metric(name="v", numerator="value"))
    assert compared(rows, plain).z == pytest.approx(z, rel=1e-3)


def test_the_delta_method_agrees_with_a_bootstrap_over_users(rows):
    users, draw = by_user(rows), np.random.default_rng(0)
    errors = []
    for side in (False, True):
        clicks, exposures = (users[name][users["treated"] == side] for name in ("clicks", "exposures"))
        drawn = draw.integers(0, len(clicks), (1_000, len(clicks)))
        errors.append((clicks[drawn].sum(axis=1) / exposures[drawn].sum(axis=1)).std())
    assert compared(rows, claim("clicks per item")).error == pytest.approx(math.hypot(*errors), rel=0.08)


def test_a_covariate_takes_variance_away_and_leaves_the_effect(rows):
    adjusted = compared(rows, claim("value per user"))
    plain = compared(rows, replace(claim("value per user"), metric=Metric(name="v", numerator="value")))
    assert adjusted.information > 2 * plain.information
    assert adjusted.relative == pytest.approx(0.1, abs=4 * adjusted.log_error)


@pytest.mark.parametrize("direction", ["increase", "decrease"])
def test_z_against_a_margin_is_zero_where_treatment_lies_on_it(direction):
    values = np.random.default_rng(1).gamma(2.0, size=(500, 1))
    worse = 0.9 if direction == "increase" else 1.1
    look = Look(day=1, control=moments(values), treatment=moments(worse * values))
    asked = Claim(
        metric=Metric(name="m", numerator="value"),
        role="guardrail", direction=direction, margin=0.1, absolute=False, effect=0.1,
    )  # fmt: skip
    found = compare(asked, look, ("value",))
    assert found.z == pytest.approx(0, abs=1e-9)
    assert compare(replace(asked, margin=0.2, effect=0.2), look, ("value",)).z > 0
    assert compare(replace(asked, margin=0.05, effect=0.05), look, ("value",)).z < 0


def test_the_chance_to_call_a_release_on_its_margin_fine_is_alpha():
    """Non-inferiority of a ratio, 400 experiments with the truth on the margin."""
    draw, found = np.random.default_rng(2), []
    for _ in range(400):
        arms = []
        for rate in (0.1, 0.095):
            shown = draw.poisson(20, 300) + 1.0
            arms.append(moments(np.stack([draw.binomial(shown.astype(int), rate), shown], axis=1)))
        look = Look(day=1, control=arms[0], treatment=arms[1])
        found.append(compare(claim("clicks per item", margin=0.05), look, ("clicks", "exposures")).z >= norm.isf(0.05))
    assert np.mean(found) == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / 400))


def test_an_arm_without_a_single_order_is_harm_and_not_a_missing_figure():
    control = moments(np.random.default_rng(3).poisson(1.0, (400, 1)).astype(float))
    dead = moments(np.zeros((400, 1)))
    asked = replace(claim("value per user"), metric=Metric(name="orders", numerator="orders"))
    found = compare(asked, Look(day=1, control=control, treatment=dead), ("orders",))
    assert found.z < -10
    assert found.relative == -1


def test_no_error_in_a_hundred_requests_is_no_proof_and_in_a_million_it_is():
    def both(requests: float) -> Look:
        arm = moments(np.stack([np.zeros(100), np.full(100, requests / 100)], axis=1))
        return Look(day=1, control=arm, treatment=arm)

    asked = claim("errors", direction="decrease", margin=0.005, absolute=True)
    assert compare(asked, both(100), ("errors", "requests")).z < 1
    assert compare(asked, both(1_000_000), ("errors", "requests")).z > 100


def test_nothing_is_said_of_users_who_do_not_differ_or_are_not_there():
    same = moments(np.ones((50, 1)))
    asked = replace(claim("value per user"), metric=Metric(name="v", numerator="value"))
    assert compare(asked, Look(day=1, control=same, treatment=same), ("value",)) is None
    nobody = moments(np.zeros((0, 1)))
    assert compare(asked, Look(day=1, control=nobody, treatment=same), ("value",)) is None


def test_information_does_not_depend_on_the_unit_of_the_metric():
    values = np.random.default_rng(4).gamma(2.0, size=(500, 1))
    asked = replace(claim("value per user", margin=0.1), metric=Metric(name="v", numerator="value"))
    looks = [Look(day=1, control=moments(k * values[:250]), treatment=moments(k * values[250:])) for k in (1, 100)]
    pounds, pence = (compare(asked, look, ("value",)) for look in looks)
    assert pounds.information == pytest.approx(pence.information)
    assert pounds.z == pytest.approx(pence.z)
