import numpy as np
import pytest

from nextpage.evaluation.baselines import TITLES, BaselineConfig, rank_baselines
from nextpage.evaluation.counts import count
from nextpage.evaluation.metrics import check_ranking
from nextpage.interactions.sequences import Sequences
from tests.evaluation.histories import histories

ITEMS = 8
CONFIG = BaselineConfig()
TRAINING = histories(
    [(0, 1, 0), (0, 1, 1), (1, 2, 2), (2, 90, 5)],
    [(0, 1, 0), (1, 2, 2), (2, 3, 0), (3, 4, 3)],
    [(0, 1, 4), (1, 2, 0), (2, 91, 5)],
)
COUNTS = count(TRAINING, ITEMS, CONFIG.recent_days)


def rankings(prompts: Sequences, k: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {name: (every, unseen) for name, every, unseen in rank_baselines(COUNTS, CONFIG, prompts, k)}


def best(name: str, *prompt: tuple[int, int, int], k: int = 1) -> list[int]:
    every, _ = rankings(histories(list(prompt)), k)[name]
    return [int(item) for item in every[0]]


def test_popularity_is_over_all_of_training_and_recent_popularity_over_its_last_weeks():
    assert best("popularity") == [0]
    assert best("recent_popularity") == [5]


def test_a_bigram_goes_forwards_only():
    assert best("bigram_last_page", (0, 1, 0)) == [2]  # 0 then 2 twice, 0 then 3 and 5 once
    assert best("bigram_last_page", (0, 1, 4)) == [0]


def test_the_last_page_bigram_forgets_what_the_whole_prompt_bigram_reads():
    prompt = [(0, 1, 0), (0, 1, 1), (1, 2, 7)]  # nothing was seen to follow 7
    assert best("bigram_last_page", *prompt) == best("popularity")
    assert best("bigram_prompt", *prompt) == [2]


def test_co_occurrence_answers_with_what_shares_a_page():
    assert best("cooccurrence", (0, 1, 1)) == [0]
    assert best("cooccurrence", (0, 1, 0)) == [1]


def test_own_frequency_counts_and_own_recency_prefers_the_late():
    prompt = [(0, 1, 6), (1, 2, 6), (2, 99, 7)]
    assert best("own_frequency", *prompt, k=2) == [6, 7]
    assert best("own_recency", *prompt, (3, 99, 7), k=2) == [7, 6]


def test_own_frequency_reads_the_last_items_of_the_prompt_and_own_recency_all():
    prompt = [(0, 1, 7)] + [(1, 2, 6)] * CONFIG.prompt_items
    assert best("own_frequency", *prompt, k=2) == [6, best("popularity")[0]]
    assert best("own_recency", *prompt, k=2) == [6, 7]


def test_own_recency_with_bigram_ranks_own_items_then_their_followers():
    assert best("own_recency_bigram", (0, 99, 4), k=2) == [4, 0]


def test_without_history_every_baseline_falls_back_to_popularity():
    for name in set(TITLES) - {"recent_popularity"}:
        assert best(name, k=3) == best("popularity", k=3), name


@pytest.mark.parametrize("name", TITLES)
def test_every_baseline_keeps_the_rankers_contract_and_leaves_out_the_seen_when_asked(name):
    prompts = histories([(0, 1, 0), (1, 2, 3)], [], [(0, 1, item) for item in range(ITEMS)])
    every, unseen = rankings(prompts, 10)[name]
    for ranking in (every, unseen):
        assert ranking.dtype == np.int32
        check_ranking(ranking, requests=3, k=10, items=ITEMS)
    assert (every >= 0).sum(axis=1).tolist() == [ITEMS, ITEMS, ITEMS]
    assert (unseen >= 0).sum(axis=1).tolist() == [ITEMS - 2, ITEMS, 0]
    assert not {0, 3} & set(unseen[0].tolist())


def test_every_baseline_has_a_title():
    assert list(rankings(histories([]), 1)) == list(TITLES)
