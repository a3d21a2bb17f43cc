import pytest

from nextpage.evaluation.baselines import TITLES
from nextpage.evaluation.bootstrap import Interval
from nextpage.evaluation.card import standing
from nextpage.evaluation.gates import Comparison, RecallGateConfig, invalid_items_gate, recall_gate

BETTER = Interval(mean=0.05, low=0.01, high=0.09)
LEVEL = Interval(mean=0.05, low=-0.01, high=0.11)
WORSE = Interval(mean=-0.05, low=-0.09, high=-0.01)
NONE = Interval(mean=float("nan"), low=float("nan"), high=float("nan"))
CONFIG = RecallGateConfig(beat=("popularity", "cooccurrence"), on=("HR@10", "NDCG@10"))


def comparison(**instead: Interval) -> Comparison:
    return {name: {"HR@10": instead.get(name, BETTER), "NDCG@10": BETTER} for name in TITLES}


def test_the_gate_passes_only_where_every_named_baseline_is_beaten_on_every_named_metric():
    assert recall_gate(comparison(), 100, CONFIG).passed
    assert recall_gate(comparison(own_recency=WORSE), 100, CONFIG).passed


@pytest.mark.parametrize("interval", [LEVEL, WORSE, NONE])
def test_a_named_baseline_that_is_not_clearly_beaten_fails_and_is_named(interval):
    verdict = recall_gate(comparison(cooccurrence=interval), 100, CONFIG)
    assert not verdict.passed
    (reason,) = verdict.reasons
    assert "HR@10" in reason
    assert TITLES["cooccurrence"] in reason


def test_no_requests_is_never_a_success():
    assert not recall_gate(comparison(), 0, CONFIG).passed


def test_a_recipe_that_names_no_baseline_asks_nothing_and_says_so():
    verdict = recall_gate(comparison(popularity=WORSE), 100, RecallGateConfig(beat=()))
    assert verdict.passed
    assert "names no baseline" in verdict.reasons[0]


def test_an_unknown_baseline_metric_or_share_is_refused():
    with pytest.raises(ValueError, match="no baseline is named bigram"):
        RecallGateConfig(beat=("bigram",))
    with pytest.raises(ValueError, match="no metric is named 'HR@11'"):
        recall_gate(comparison(), 1, RecallGateConfig(on=("HR@11",)))
    with pytest.raises(ValueError, match="no share"):
        RecallGateConfig(max_invalid_share=10)


@pytest.mark.parametrize(("share", "passed"), [(0.0, True), (0.1, True), (0.11, False), (float("nan"), False)])
def test_invalid_items_are_bounded_and_nothing_generated_fails(share, passed):
    assert invalid_items_gate(share, RecallGateConfig(max_invalid_share=0.1)).passed is passed


@pytest.mark.parametrize(
    ("interval", "word"), [(BETTER, "beats"), (LEVEL, "level with"), (WORSE, "loses to"), (NONE, "no data on")]
)
def test_the_card_calls_a_win_only_what_is_clear_of_zero(interval, word):
    assert standing(interval) == word
