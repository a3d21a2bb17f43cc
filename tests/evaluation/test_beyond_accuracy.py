import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextpage.evaluation.beyond_accuracy import beyond_accuracy, gini, popularity_percentile
from tests.evaluation.histories import truth

POPULARITY = np.array([8, 4, 2, 1])


def test_coverage_counts_distinct_items_within_the_cutoff():
    ranking = np.array([[0, 1, 3], [0, 2, -1]], dtype=np.int32)
    figures = {k: beyond_accuracy(ranking, truth([0], [1]), POPULARITY, k)[f"coverage@{k}"] for k in (1, 2, 3)}
    assert figures == {1: 0.25, 2: 0.75, 3: 1.0}


def test_recommending_what_users_take_has_no_popularity_bias_and_the_head_has_one():
    taken = truth([0, 3], [1, 2])
    like = beyond_accuracy(np.array([[3, 0], [2, 1]], dtype=np.int32), taken, POPULARITY, 2)
    head = beyond_accuracy(np.array([[0, 1], [0, 1]], dtype=np.int32), taken, POPULARITY, 2)
    assert like["popularity_bias@2"] == pytest.approx(0)
    assert head["popularity_bias@2"] > 0.2
    assert head["novelty@2"] < like["novelty@2"]


def test_novelty_is_self_information_of_the_add_one_share():
    figures = beyond_accuracy(np.array([[3]], dtype=np.int32), truth([0]), POPULARITY, 1)
    assert figures["novelty@1"] == pytest.approx(-np.log2(2 / 19))


def test_gini_is_zero_when_all_get_alike_and_near_one_when_one_gets_all():
    assert gini(np.full(100, 3)) == pytest.approx(0)
    assert gini(np.eye(1, 100)[0]) == pytest.approx(0.99)
    assert np.isnan(gini(np.zeros(5)))


@given(st.lists(st.integers(0, 20), min_size=2, max_size=12).filter(any))
def test_gini_equals_the_mean_absolute_difference(amounts):
    values = np.array(amounts)
    pairwise = np.abs(values[:, None] - values[None, :]).mean() / (2 * values.mean())
    assert gini(values) == pytest.approx(pairwise)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=12))
def test_percentiles_average_one_half_and_follow_popularity(counts):
    percentile = popularity_percentile(np.array(counts))
    assert percentile.mean() == pytest.approx(0.5)
    for a, b in zip(counts, percentile, strict=True):
        assert all((a < c) <= (b < d) for c, d in zip(counts, percentile, strict=True))
