from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextpage.experiments.gate import HOLD, INVALID, PROMOTE, ROLLBACK, decide
from nextpage.experiments.sequential import SequentialConfig
from nextpage.experiments.summary import summarise
from tests.experiments.logs import make_rows, make_rule

RULE = make_rule()


def verdict(rows, rule=RULE, day=14, **settings) -> tuple[str, str]:
    decision = decide(rule, summarise(rows, rule, day), **settings)
    return decision.verdict, decision.cause


@pytest.fixture(scope="module")
def better():
    return make_rows(seed=21, value=0.10)


@pytest.fixture(scope="module")
def worse():
    return make_rows(seed=22, value=-0.15)


def test_a_release_that_wins_and_harms_no_guardrail_is_promoted(better):
    assert verdict(better) == (PROMOTE, "success")


def test_promotion_waits_for_an_approval_where_the_rule_asks_for_one(better):
    rule = make_rule(promotion="approval")
    assert verdict(better, rule) == (HOLD, "approval")
    assert verdict(better, rule, approved_by="Ada") == (PROMOTE, "success")
    assert "approved by Ada" in decide(rule, summarise(better, rule, 14), approved_by="Ada").reasons


def test_promotion_comes_after_whole_weeks_only(better):
    assert verdict(better, day=13) == (HOLD, "undecided")
    assert verdict(better, make_rule(promotion_days=1), day=13) == (PROMOTE, "success")


def test_harm_is_rolled_back_by_itself_and_before_the_horizon(worse):
    assert verdict(worse, make_rule(promotion="approval"), day=10) == (ROLLBACK, "harm")


def test_an_approval_does_not_promote_what_has_not_won(worse):
    assert verdict(make_rows(seed=23), make_rule(promotion="approval"), day=7, approved_by="Ada")[0] == HOLD
    assert verdict(worse, make_rule(promotion="approval"), approved_by="Ada")[0] == ROLLBACK


def test_a_win_that_costs_a_guardrail_its_margin_is_rolled_back():
    rows = make_rows(seed=24, value=0.10, clicks=-0.12)
    decision = decide(RULE, summarise(rows, RULE, 14))
    assert (decision.verdict, decision.cause) == (ROLLBACK, "harm")
    assert len(decision.reasons) == 1
    assert decision.reasons[0].startswith("clicks per item: worse than its margin")


def test_a_win_whose_guardrail_is_not_yet_shown_is_not_promoted():
    rows = make_rows(1_500, seed=25, value=0.25, clicks=-0.05)
    decision = decide(RULE, summarise(rows, RULE, 7))
    assert decision.verdict == HOLD
    assert [one.finding for one in decision.tested[:2]] == ["shown", "undecided"]


def test_a_rise_of_errors_from_almost_none_is_harm():
    assert verdict(make_rows(seed=26, value=0.05, error_rate=(0.0, 0.03)), day=9) == (ROLLBACK, "harm")


def test_a_guardrail_that_never_moved_from_zero_lets_a_win_through():
    assert verdict(make_rows(seed=21, value=0.10, error_rate=(0.0, 0.0))) == (PROMOTE, "success")


def test_at_the_horizon_without_a_decision_control_is_kept():
    rows = make_rows(seed=27)
    assert verdict(rows, day=13) == (HOLD, "undecided")
    assert verdict(rows, day=14) == (ROLLBACK, "horizon")


@pytest.mark.parametrize("day", [0, 1, 7])
def test_no_data_is_never_a_success(better, day):
    assert verdict(better.slice(0, 0), day=day) == (HOLD, "data")


def test_no_data_at_the_horizon_keeps_control(better):
    assert verdict(better.slice(0, 0)) == (ROLLBACK, "horizon")


def test_too_few_users_are_not_tested_however_clear_they_look(worse):
    assert verdict(worse, make_rule(minimum_users=10_000), day=10) == (HOLD, "data")


def test_a_metric_of_which_nothing_is_known_holds_the_release(better):
    place = better.column_names.index("clicks")
    silent = better.set_column(place, "clicks", pc.multiply(better["clicks"], 0.0))
    decision = decide(RULE, summarise(silent, RULE, 7))
    assert decision.verdict == HOLD
    assert decision.tested[1].finding == "no data"


@pytest.mark.parametrize("effect", [0.0, 0.10, -0.15])
def test_quality_comes_before_every_other_word(effect):
    rows = make_rows(seed=28, value=effect)
    lost = (rows["arm"].to_numpy() == "treatment") & (np.char.str_len(rows["user_id"].to_numpy().astype(str)) == 8)
    assert verdict(rows.filter(~lost)) == (INVALID, "quality")


def test_where_less_is_better_a_fall_wins_and_a_rise_is_harm():
    down = make_rule(primary={"metric": "value per user", "minimum_effect": 0.05, "direction": "decrease"})
    assert verdict(make_rows(seed=29, value=-0.10), down) == (PROMOTE, "success")
    assert verdict(make_rows(seed=29, value=0.15), down, day=10) == (ROLLBACK, "harm")


def test_the_interval_says_what_the_verdict_says(better, worse):
    for rows in (better, worse, make_rows(seed=27)):
        for one in decide(make_rule(promotion_days=1), summarise(rows, make_rule(promotion_days=1), 14)).tested[:2]:
            last, bound = one.path[-1], -one.margin
            assert (one.finding == "shown") == (last.low > bound - 1e-3 and last.z >= last.to_show)
            assert (one.finding == "harmed") == (last.high < bound + 1e-3 and last.z <= -last.to_harm)


@settings(max_examples=10)
@given(st.integers(1, 14), st.integers(0, 10_000), st.sampled_from([-0.2, 0.0, 0.2]))
def test_a_verdict_rests_on_nothing_but_the_rule_and_the_days_that_are_over(day, seed, effect):
    rows = make_rows(500, seed=seed, value=effect)
    summary = summarise(rows, RULE, day)
    known = rows.filter(pc.less_equal(rows["day"], day))
    assert decide(RULE, summary) == decide(RULE, summary) == decide(RULE, summarise(known, RULE, day))


@pytest.mark.parametrize("design", ["group", "always_valid"])
def test_both_designs_find_a_large_effect_and_a_large_harm(design, better, worse):
    rule = replace(RULE, sequential=SequentialConfig(design=design))
    assert verdict(better, rule)[0] == PROMOTE
    assert verdict(worse, rule, day=12)[0] == ROLLBACK
