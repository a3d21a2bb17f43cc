import math

import numpy as np
import pyarrow.compute as pc
import pytest

from nextpage.experiments.breakdown import by_day, by_segment, novelty
from nextpage.experiments.summary import summarise
from tests.experiments.logs import by_user, make_rows, make_rule

RULE = make_rule(segments=["tier"])


def wearing_off(seed: int, effect: float):
    """Value that is higher in treatment in the first week, and not in the second."""
    rows = make_rows(seed=seed)
    lifted = (rows["arm"].to_numpy() == "treatment") & (rows["day"].to_numpy() <= 7)
    place = rows.column_names.index("value")
    return rows.set_column(place, "value", pc.multiply(rows["value"], np.where(lifted, 1 + effect, 1.0)))


def test_an_effect_that_wears_off_is_seen_and_a_lasting_one_is_not_called_so():
    worn = novelty(summarise(wearing_off(51, 0.3), RULE, 14), RULE)
    assert worn.high < 0
    assert abs(worn.effect - (1 / 1.3 - 1)) < worn.high - worn.low  # four standard errors
    lasting = novelty(summarise(make_rows(seed=52, value=0.3), RULE, 14), RULE)
    assert abs(lasting.effect) < lasting.high - lasting.low


def test_the_change_is_the_ratio_of_ratios_of_the_two_weeks():
    rows = wearing_off(53, 0.3)
    early, late = (by_user(rows.filter(pc.equal(pc.less_equal(rows["day"], 7), first))) for first in (True, False))
    ratios = []
    for week in (late, early):
        totals = [week["value"][week["treated"] == side].sum() for side in (True, False)]
        ratios.append(totals[0] / totals[1])
    assert novelty(summarise(rows, RULE, 14), RULE).effect == pytest.approx(ratios[0] / ratios[1] - 1)


def test_without_a_change_its_interval_misses_nothing_about_as_often_as_it_says():
    missed = 0
    for seed in range(100):
        change = novelty(summarise(make_rows(300, 6, seed=seed), RULE, 6), RULE)
        missed += not change.low < 0 < change.high
    assert missed <= 13  # 5 are expected; 13 or fewer in all but one case of 1,000


def test_a_ratio_metric_changes_by_its_rate_and_not_by_its_traffic():
    rule = make_rule(primary={"metric": "clicks per item", "minimum_effect": 0.05}, guardrails=[])
    rows = make_rows(seed=54)
    more = pc.multiply(rows["exposures"], np.where(rows["day"].to_numpy() > 7, 3.0, 1.0))
    clicks = pc.multiply(rows["clicks"], np.where(rows["day"].to_numpy() > 7, 3.0, 1.0))
    rows = rows.set_column(rows.column_names.index("exposures"), "exposures", more)
    rows = rows.set_column(rows.column_names.index("clicks"), "clicks", clicks)
    change = novelty(summarise(rows, rule, 14), rule)
    assert abs(change.effect) < change.high - change.low < 0.1


def test_each_day_and_each_segment_has_its_own_effect():
    rows = wearing_off(55, 0.5)
    days = by_day(summarise(rows, RULE, 14), RULE)
    assert len(days) == 14
    assert np.mean([day.effect for day in days[:7]]) == pytest.approx(0.5, abs=0.12)
    assert np.mean([day.effect for day in days[7:]]) == pytest.approx(0.0, abs=0.1)


def test_segments_are_wider_than_they_would_be_alone_and_hold_the_truth():
    summary = summarise(make_rows(seed=56, value=0.2), RULE, 14)
    often, seldom = by_segment(summary, RULE)
    (only, *_) = by_segment(summarise(make_rows(seed=56, value=0.2), RULE, 14), make_rule(segments=["tier"]))
    assert often == only
    for part in (often, seldom):
        assert part.low < 0.2 < part.high
    assert often.users + seldom.users == sum(summary.users)


def test_nothing_is_said_where_nobody_came():
    empty = summarise(make_rows(10, 2, seed=57).slice(0, 0), RULE, 2)
    assert math.isnan(novelty(empty, RULE).effect)
    assert all(math.isnan(day.effect) for day in by_day(empty, RULE))
