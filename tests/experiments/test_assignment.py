from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from nextpage.experiments.assignment import (
    BUCKETS,
    CONTROL,
    OUTSIDE,
    TREATMENT,
    Experiment,
    analysed_arms,
    arm,
    arms,
    buckets,
    check_layers,
    ramped,
)
from nextpage.interactions.complete_journey import package_files

NUMBERED = [f"user-{number}" for number in range(20_000)]
users = st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=30)
shares = st.integers(0, BUCKETS).map(lambda part: part / BUCKETS)


def households() -> list[str]:
    table = pq.read_table(Path(package_files()) / "transactions.parquet", columns=["household_id"])
    return sorted({str(household) for household in table["household_id"].unique().to_pylist()})


@pytest.mark.parametrize("salt", ["a", "b", "layer/default"])
@pytest.mark.parametrize("ids", [NUMBERED, households()], ids=["numbered", "households"])
def test_buckets_are_even_over_real_ids(ids, salt):
    tenths = np.bincount(buckets(ids, salt) // (BUCKETS // 10), minlength=10)
    assert chisquare(tenths).pvalue > 1e-4


def test_two_experiments_draw_independently_of_each_other():
    first, second = buckets(NUMBERED, "experiment/a"), buckets(NUMBERED, "experiment/b")
    cells = np.histogram2d(first, second, bins=5, range=[[0, BUCKETS]] * 2)[0]
    assert chisquare(cells.ravel()).pvalue > 1e-4


def test_buckets_are_the_same_on_every_machine_and_in_every_year():
    """The first 16 digits of `printf "experiment/a\\0user-1" | sha256sum`, modulo 10,000."""
    assert buckets(["user-1", "user-2", "Zoë"], "experiment/a").tolist() == [8312, 8662, 8866]


@given(users, shares, shares)
def test_a_ramp_moves_nobody_except_into_treatment(ids, one, other):
    small, large = sorted((one, other))
    before = arms(ids, Experiment(name="x", share=small))
    after = arms(ids, Experiment(name="x", share=large))
    moves = {(str(old), str(new)) for old, new in zip(before, after, strict=True) if old != new}
    into_the_experiment = {(OUTSIDE, TREATMENT), (OUTSIDE, CONTROL)}
    assert moves <= (into_the_experiment if large <= 0.5 else into_the_experiment | {(CONTROL, TREATMENT)})


@pytest.mark.parametrize("share", [0.05, 0.10, 0.25, 0.50])
def test_both_arms_are_of_one_size_at_every_step_up_to_a_half(share):
    drawn = arms(NUMBERED, Experiment(name="x", share=share))
    sizes = [(drawn == TREATMENT).sum(), (drawn == CONTROL).sum(), (drawn == OUTSIDE).sum()]
    expected = np.array([share, share, 1 - 2 * share]) * len(NUMBERED)
    kept = expected > 0
    assert chisquare(np.array(sizes)[kept], expected[kept]).pvalue > 1e-4
    assert Experiment(name="x", share=share).treatment_share == pytest.approx(0.5)


def test_the_ends_of_a_ramp_hold_nobody_and_everybody():
    assert set(arms(NUMBERED[:500], Experiment(name="x", share=0.0))) == {OUTSIDE}
    assert set(arms(NUMBERED[:500], Experiment(name="x", share=1.0))) == {TREATMENT}
    assert Experiment(name="x", share=0.75).treatment_share == pytest.approx(0.75)


def test_a_ramp_cannot_go_back():
    assert ramped(Experiment(name="x", share=0.1), 0.5).share == 0.5
    with pytest.raises(ValueError, match="cannot go back"):
        ramped(Experiment(name="x", share=0.5), 0.1)


@given(users, shares)
def test_one_user_at_a_time_gives_what_the_array_gives(ids, share):
    experiment = Experiment(name="x", share=share, slots=(0, 5_000), overrides={"vip": TREATMENT})
    assert [arm(user, experiment) for user in ids] == arms(ids, experiment).tolist()


@given(users, st.integers(1, BUCKETS - 1), st.integers(1, BUCKETS - 1))
def test_experiments_of_one_layer_never_share_a_user(ids, one, other):
    low, high = min(one, other), max(one, other) + 1
    layer = [
        Experiment(name="a", share=0.5, slots=(0, low)),
        Experiment(name="b", share=0.5, slots=(low, high)),
        Experiment(name="c", share=0.5, slots=(high, BUCKETS)) if high < BUCKETS else Experiment(name="c", layer="own"),
    ]
    check_layers(layer)
    held = np.array([arms(ids, experiment) != OUTSIDE for experiment in layer if experiment.layer == "default"])
    assert held.sum(axis=0).max() <= 1


def test_overlapping_slots_and_repeated_names_are_refused():
    with pytest.raises(ValueError, match="overlap in layer 'default'"):
        check_layers([Experiment(name="a", slots=(0, 5_001)), Experiment(name="b", slots=(5_000, 10_000))])
    with pytest.raises(ValueError, match="two experiments are named 'a'"):
        check_layers([Experiment(name="a"), Experiment(name="a", layer="other")])
    check_layers([Experiment(name="a"), Experiment(name="b", layer="other")])


def test_layers_are_independent_of_each_other():
    in_a = arms(NUMBERED, Experiment(name="a", slots=(0, 5_000), share=0.5)) != OUTSIDE
    in_b = arms(NUMBERED, Experiment(name="b", layer="other", slots=(0, 5_000), share=0.5)) != OUTSIDE
    cells = [(in_a & in_b).sum(), (in_a & ~in_b).sum(), (~in_a & in_b).sum(), (~in_a & ~in_b).sum()]
    assert chisquare(cells).pvalue > 1e-4


def test_an_override_is_served_and_not_analysed():
    drawn = arms(NUMBERED, Experiment(name="x", share=0.5))
    user = NUMBERED[int(np.flatnonzero(drawn == CONTROL)[0])]
    experiment = Experiment(name="x", share=0.5, overrides={user: TREATMENT})
    assert arm(user, experiment) == TREATMENT
    assert analysed_arms([user], experiment).tolist() == [OUTSIDE]
    others = [other for other in NUMBERED[:100] if other != user]
    assert (analysed_arms(others, experiment) == arms(others, experiment)).all()


def test_without_an_id_a_user_is_outside():
    assert arms([None, "", "user-1"], Experiment(name="x", share=1.0)).tolist() == [OUTSIDE, OUTSIDE, TREATMENT]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 1.5}, "no share"),
        ({"name": ""}, "no name"),
        ({"slots": (5, 5)}, "no part of"),
        ({"overrides": {"u": "outside"}}, "use control or treatment"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Experiment(**{"name": "x", **settings})
