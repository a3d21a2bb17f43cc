import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextpage.evaluation.metrics import CUTOFFS, check_ranking, ranking_metrics, without_seen
from nextpage.evaluation.truth import seen_before
from tests.evaluation.histories import histories, truth

ITEMS = 12


def naive(ranked: list[int], wanted: list[int], cutoff: int) -> dict[str, float]:
    """The definitions of the module's docstring, said again as plainly as can be."""
    if not wanted:
        return dict.fromkeys(("HR", "NDCG", "Recall", "MRR"), math.nan)
    places = [place for place, item in enumerate(ranked[:cutoff], start=1) if item in wanted]
    ideal = sum(1 / math.log2(place + 1) for place in range(1, min(cutoff, len(wanted)) + 1))
    return {
        "HR": float(bool(places)),
        "NDCG": sum(1 / math.log2(place + 1) for place in places) / ideal,
        "Recall": len(places) / len(wanted),
        "MRR": 1 / places[0] if places else 0.0,
    }


item_lists = st.lists(st.integers(0, ITEMS - 1), unique=True, max_size=ITEMS)
requests = st.lists(st.tuples(item_lists, item_lists, item_lists), min_size=1, max_size=6)


def padded(rankings: list[list[int]], k: int) -> np.ndarray:
    return np.array([ranked[:k] + [-1] * (k - len(ranked)) for ranked in rankings], dtype=np.int32)


@given(requests, st.integers(1, 15))
@settings(max_examples=200, deadline=None)
def test_metrics_equal_the_definitions_on_any_ranking(drawn, k):
    rankings = [ranked[:k] for ranked, _, _ in drawn]
    wanted = [wanted for _, wanted, _ in drawn]
    measured = ranking_metrics(padded(rankings, k), truth(*wanted))
    for cutoff in CUTOFFS:
        for row, ranked in enumerate(rankings):
            for name, expected in naive(ranked, wanted[row], cutoff).items():
                assert measured[f"{name}@{cutoff}"][row] == pytest.approx(expected, nan_ok=True)


@given(requests)
@settings(max_examples=100, deadline=None)
def test_taking_out_seen_items_keeps_the_order_of_the_rest(drawn):
    past = histories(*[[(0, 0, item) for item in seen] for _, _, seen in drawn])
    ranking = without_seen(padded([ranked for ranked, _, _ in drawn], ITEMS), past)
    for row, (ranked, _, seen) in enumerate(drawn):
        assert [item for item in ranking[row] if item >= 0] == [item for item in ranked if item not in seen]


@given(requests)
@settings(max_examples=100, deadline=None)
def test_truth_new_to_the_user_is_what_the_history_lacks(drawn):
    past = histories(*[[(0, 0, item) for item in seen] for _, _, seen in drawn])
    every = truth(*[wanted for _, wanted, _ in drawn])
    new = every.select(~seen_before(every, past))
    for row, (_, wanted, seen) in enumerate(drawn):
        kept = new.item[new.offset[row] : new.offset[row + 1]]
        assert kept.tolist() == [item for item in wanted if item not in seen]


def test_a_perfect_ranking_scores_one_everywhere_but_recall_is_bound_by_k():
    measured = ranking_metrics(padded([[3, 1, 2]], 3), truth([1, 2, 3]))
    assert {measured[f"{name}@1"][0] for name in ("HR", "NDCG", "MRR")} == {1.0}
    assert measured["Recall@1"][0] == pytest.approx(1 / 3)
    assert measured["Recall@5"][0] == 1.0


def test_a_truth_that_names_an_item_twice_is_refused():
    with pytest.raises(ValueError, match="twice"):
        truth([1, 2, 1])


@pytest.mark.parametrize(
    ("ranking", "message"),
    [
        ([[0, 1, 2]], "shape"),
        ([[0, 12]], "another release"),
        ([[-2, 1]], "another release"),
        ([[5, 5]], "twice"),
    ],
)
def test_a_ranking_that_breaks_the_rankers_contract_is_refused(ranking, message):
    with pytest.raises(ValueError, match=message):
        check_ranking(np.array(ranking), requests=1, k=2, items=12)


def test_a_short_ranking_padded_with_minus_one_is_accepted():
    check_ranking(np.array([[4, -1, -1]]), requests=1, k=3, items=12)
