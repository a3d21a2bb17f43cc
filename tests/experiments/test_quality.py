import numpy as np
import pyarrow.compute as pc
import pytest
import tea_tasting as tt
from tea_tasting.aggr import Aggregates

from nextpage.experiments.quality import quality_failures, sample_ratio_p
from nextpage.experiments.summary import summarise
from tests.experiments.logs import make_rows, make_rule

RULE = make_rule()


@pytest.mark.parametrize(
    ("control", "treatment", "share"), [(5_000, 5_200, 0.5), (8_000, 2_100, 0.2), (900, 1_000, 0.5)]
)
def test_the_sample_ratio_is_judged_as_tea_tasting_does(control, treatment, share):
    theirs = tt.SampleRatio(share / (1 - share), method="norm", correction=False).analyze(
        {0: Aggregates(control), 1: Aggregates(treatment)}, 0, 1
    )
    assert sample_ratio_p(control, treatment, share) == pytest.approx(theirs.pvalue, rel=1e-9)


def test_equal_arms_fail_as_often_as_the_level_says():
    treatment, times = np.unique(np.random.default_rng(0).binomial(10_000, 0.5, 20_000), return_counts=True)
    failed = times @ [sample_ratio_p(10_000 - k, k, 0.5) < 0.01 for k in treatment.tolist()] / 20_000
    assert failed == pytest.approx(0.01, abs=4 * np.sqrt(0.01 * 0.99 / 20_000))


def test_good_evidence_fails_nothing():
    assert quality_failures(RULE, summarise(make_rows(seed=1), RULE, 14)) == ()


def test_losing_a_fifth_of_the_treated_users_is_a_mismatch():
    rows = make_rows(seed=2)
    number = pc.cast(pc.replace_substring(rows["user_id"], "user-", ""), "int64").to_numpy()
    lost = (rows["arm"].to_numpy() == "treatment") & (number % 5 == 0)
    (failure,) = quality_failures(RULE, summarise(rows.filter(~lost), RULE, 14))
    assert failure.startswith("sample ratio mismatch")


def test_a_handful_of_users_is_not_asked():
    assert sample_ratio_p(12, 3, 0.5) == 1.0
    assert sample_ratio_p(0, 0, 0.5) == 1.0
    assert sample_ratio_p(0, 40, 0.5) < 1e-6


def test_a_day_on_which_an_arm_is_silent_is_named():
    rows = make_rows(seed=3)
    silent = (rows["arm"].to_numpy() == "treatment") & (rows["day"].to_numpy() == 9)
    (failure,) = quality_failures(RULE, summarise(rows.filter(~silent), RULE, 14))
    assert "day 9" in failure
    assert "none in treatment" in failure


def test_too_many_users_in_both_arms_are_named():
    rows = make_rows(400, seed=4)
    arm = rows["arm"].to_pylist()
    for row, user in enumerate(rows["user_id"].to_pylist()):
        if user in {f"user-{number}" for number in range(20)} and rows["day"][row].as_py() > 7:
            arm[row] = "treatment" if arm[row] == "control" else "control"
    mixed = rows.set_column(rows.column_names.index("arm"), "arm", [arm])
    (failure,) = quality_failures(RULE, summarise(mixed, RULE, 14))
    assert failure.startswith("contamination: ")
