import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextpage.experiments.evidence import EVIDENCE_SCHEMA
from nextpage.experiments.summary import moments, summarise
from tests.experiments.logs import by_user, make_rows, make_rule

RULE = make_rule(segments=["tier"])


def test_moments_are_those_of_numpy():
    values = np.random.default_rng(0).lognormal(size=(50, 3))
    found = moments(values)
    assert found.users == 50
    assert found.mean == pytest.approx(values.mean(axis=0))
    assert np.array(found.covariance) == pytest.approx(np.cov(values.T))


def test_the_last_look_is_of_the_totals_of_each_user():
    rows = make_rows(300, seed=1)
    summary, users = summarise(rows, RULE, 14), by_user(rows)
    for arm, treated in ((summary.looks[-1].control, False), (summary.looks[-1].treatment, True)):
        chosen = users["treated"] == treated
        assert arm.users == chosen.sum()
        for name in ("value", "clicks", "errors", "pre_value"):
            place = summary.columns.index(name)
            assert arm.mean[place] == pytest.approx(users[name][chosen].mean())
            assert arm.covariance[place][place] == pytest.approx(users[name][chosen].var(ddof=1))


@settings(max_examples=20)
@given(st.integers(1, 6), st.integers(0, 1_000))
def test_a_look_knows_nothing_of_later_days(through, seed):
    rows = make_rows(40, 6, seed=seed)
    early = rows.filter(pc.less_equal(rows["day"], through))
    assert summarise(rows, RULE, through) == summarise(early, RULE, through)
    assert summarise(rows, RULE, through).looks == summarise(rows, RULE, 6).looks[:through]


def test_the_order_of_rows_and_rows_split_in_two_change_nothing():
    rows = make_rows(60, 5, seed=2)
    shuffled = rows.take(np.random.default_rng(0).permutation(len(rows)))
    assert summarise(shuffled, RULE, 5) == summarise(rows, RULE, 5)
    figures = [name for name in rows.column_names if pa.types.is_floating(rows.schema.field(name).type)]
    half = rows
    for name in figures:
        if not name.startswith("pre_"):
            half = half.set_column(half.column_names.index(name), name, pc.divide(half[name], 2.0))
    twice = summarise(pa.concat_tables([half, half]), RULE, 5)
    assert np.array(twice.looks[-1].control.mean) == pytest.approx(summarise(rows, RULE, 5).looks[-1].control.mean)


def test_users_seen_in_both_arms_are_counted_and_left_out():
    rows = make_rows(200, 7, seed=3)
    strays = [f"user-{number}" for number in range(10)]
    crossed = rows.filter(pc.is_in(rows["user_id"], pa.array(strays)))
    other = pc.if_else(pc.equal(crossed["arm"], "control"), "treatment", "control")
    crossed = crossed.set_column(crossed.column_names.index("arm"), "arm", other)
    summary = summarise(pa.concat_tables([rows, crossed]), RULE, 7)
    assert summary.contaminated == len(set(crossed["user_id"].to_pylist()))
    without = rows.filter(pc.invert(pc.is_in(rows["user_id"], pa.array(strays))))
    assert summary.looks == summarise(without, RULE, 7).looks


def test_a_user_who_changes_arms_later_counts_until_then():
    rows = make_rows(100, 6, seed=9)
    user, day, arm = rows["user_id"].to_numpy(), rows["day"].to_numpy(), rows["arm"].to_numpy()
    faithless = sorted(set(user[day <= 3]) & set(user[day > 3]))[0]
    turned = np.where((user == faithless) & (day > 3), np.where(arm == "control", "treatment", "control"), arm)
    changed = rows.set_column(rows.column_names.index("arm"), "arm", pa.array(turned))
    assert summarise(changed, RULE, 3) == summarise(rows, RULE, 3)
    assert summarise(changed, RULE, 6).contaminated == 1


def test_rows_of_no_arm_are_left_out():
    rows = make_rows(100, 3, seed=4)
    extra = rows.slice(0, 50)
    extra = extra.set_column(extra.column_names.index("arm"), "arm", pa.array(["outside"] * 50))
    extra = extra.set_column(0, "user_id", pa.array([f"else-{row}" for row in range(50)]))
    assert summarise(pa.concat_tables([rows, extra]), RULE, 3) == summarise(rows, RULE, 3)


def test_segments_part_the_users_and_the_halves_part_the_days():
    rows = make_rows(300, 14, seed=5)
    summary = summarise(rows, RULE, 14)
    assert [(name, value) for name, value, _ in summary.segments] == [("tier", "often"), ("tier", "seldom")]
    assert sum(look.treatment.users for _, _, look in summary.segments) == summary.users[1]
    place, width = summary.columns.index("value"), len(summary.early_late.control.mean) // 2
    early, late = summary.early_late.control.mean[place], summary.early_late.control.mean[place + width]
    first_week = summary.looks[6].control
    assert early * summary.users[0] == pytest.approx(first_week.mean[place] * first_week.users)
    assert early + late == pytest.approx(summary.looks[-1].control.mean[place])


def test_no_rows_make_a_summary_without_users():
    empty = make_rows(5, 2, seed=6).slice(0, 0)
    summary = summarise(empty, RULE, 2)
    assert summary.users == (0, 0)
    assert summarise(empty, RULE, 0).looks == ()


def test_the_schema_names_what_a_rule_may_read():
    rule = make_rule()
    assert {name for metric in rule.metrics for name in metric.measures} <= set(EVIDENCE_SCHEMA.names)


def _changed(rows: pa.Table, name: str, row: int, value: object) -> pa.Table:
    values = rows[name].to_pylist()
    values[row] = value
    return rows.set_column(rows.column_names.index(name), name, pa.array(values, rows.schema.field(name).type))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop_columns(["clicks"]), "no column 'clicks'"),
        (lambda rows: rows.drop_columns(["pre_value"]), "no column 'pre_value'"),
        (lambda rows: rows.drop_columns(["segment_tier"]), "no column 'segment_tier'"),
        (lambda rows: _changed(rows, "value", 3, None), "has 1 nulls"),
        (lambda rows: _changed(rows, "value", 3, float("inf")), "not finite"),
        (lambda rows: _changed(rows, "day", 3, 0), "day 0"),
        (lambda rows: _changed(rows, "pre_value", 0, 77.0), "changes between rows of user"),
        (lambda rows: _changed(rows, "segment_tier", 0, "other"), "changes between rows of user"),
    ],
)
def test_evidence_that_lacks_or_breaks_something_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        summarise(change(make_rows(50, 5, seed=7)), RULE, 5)


def test_a_day_past_the_horizon_is_refused():
    with pytest.raises(ValueError, match="its rule ends it on day 14"):
        summarise(make_rows(10, 2, seed=8), RULE, 15)
