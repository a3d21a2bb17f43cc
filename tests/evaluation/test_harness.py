import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from nextpage.evaluation.baselines import TITLES, BaselineConfig
from nextpage.evaluation.bootstrap import BootstrapConfig
from nextpage.evaluation.harness import evaluate, evaluate_baselines
from nextpage.evaluation.metrics import DEPTH, ranking_metrics
from nextpage.evaluation.trial import Trial, read_trial
from nextpage.interactions.sequences import Sequences
from tests.synthetic import write_dataset

BOOTSTRAP = BootstrapConfig(resamples=200)
RECENT_DAYS = 10


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return trial_of(tmp_path_factory.mktemp("log"))


def trial_of(folder: Path, split: str = "test") -> Trial:
    dataset = write_dataset(folder)
    item_ids = pq.read_table(dataset.items)["item_id"].to_pylist()
    return read_trial(dataset, item_ids, split=split, limit=None, relevant=("ordered",), recent_days=RECENT_DAYS)


def oracle(trial: Trial):
    """Ranks the truth first, then nothing; finds its place by user and moment."""
    place = {
        (user, moment): row for row, (user, moment) in enumerate(zip(trial.user_id, trial.histories.as_of, strict=True))
    }

    def rank(prompts: Sequences, k: int) -> np.ndarray:
        ranking = np.full((len(prompts), k), -1, dtype=np.int32)
        for row, key in enumerate(zip(prompts.user_id, prompts.as_of, strict=True)):
            start, end = trial.truth.offset[place[key] : place[key] + 2]
            ranking[row, : end - start] = trial.truth.item[start:end]
        return ranking

    return rank


def test_an_oracle_scores_one_on_all_items_and_on_new_ones(trial):
    report = evaluate("oracle", oracle(trial), trial, BOOTSTRAP)
    for metric in ("HR@1", "NDCG@10", "Recall@10", "MRR@50"):
        assert report.metrics[metric].mean == pytest.approx(1.0)
        assert report.new_items[metric].mean == pytest.approx(1.0)
    assert 0 < report.requests_with_new < report.requests == len(trial)


def test_a_ranker_of_nothing_scores_zero(trial):
    report = evaluate("nothing", lambda prompts, k: np.full((len(prompts), k), -1), trial, BOOTSTRAP)
    assert {interval.mean for interval in report.metrics.values()} == {0.0}


def test_the_trial_holds_only_relevant_events_of_before_each_request(trial):
    assert (trial.histories.behaviour == 2).all()
    moments = np.repeat(trial.histories.as_of, np.diff(trial.histories.offset))
    assert (trial.histories.time < moments).all()


def test_a_log_with_nothing_to_measure_on_is_refused(tmp_path):
    dataset = write_dataset(tmp_path, users=2)
    with pytest.raises(ValueError, match="no test page holds an item"):
        read_trial(dataset, ["unheard of"], split="test", limit=None, relevant=("ordered",), recent_days=RECENT_DAYS)


def test_counts_are_of_training_whatever_the_split(trial, tmp_path):
    validation = trial_of(tmp_path, split="validation")
    assert np.array_equal(validation.counts.popularity, trial.counts.popularity)
    assert not set(validation.request_id) & set(trial.request_id)


def test_households_that_repeat_make_their_own_frequency_beat_popularity(trial):
    reports = evaluate_baselines(trial, BaselineConfig(), BOOTSTRAP)
    assert list(reports) == list(TITLES)
    for own in ("own_frequency", "own_recency", "own_recency_bigram"):
        assert reports[own].metrics["HR@5"].low > reports["popularity"].metrics["HR@5"].high


def test_slices_with_an_item_rule_keep_only_such_truth(trial):
    report = evaluate("oracle", oracle(trial), trial, BOOTSTRAP)
    parts = {(part.axis, part.value): part for part in report.slices}
    ages = [part for (axis, _), part in parts.items() if axis == "age"]
    assert sum(part.requests for part in ages) == len(trial)
    tail = parts["item", "long tail: the rest"]
    assert 0 < tail.requests < len(trial)
    assert tail.metrics["HR@10"].mean == 1.0


def test_without_a_discovery_ranker_the_seen_are_taken_out_of_the_ranking(trial):
    items = len(trial.counts.popularity)

    def first_items(prompts: Sequences, k: int) -> np.ndarray:
        return np.tile(np.arange(k, dtype=np.int32), (len(prompts), 1))

    def unseen_first(prompts: Sequences, k: int) -> np.ndarray:
        seen = [set(prompts.item[a:b]) for a, b in zip(prompts.offset[:-1], prompts.offset[1:], strict=True)]
        return np.array([[i for i in range(items) if i not in known][:k] for known in seen], dtype=np.int32)

    filtered = evaluate("filtered", first_items, trial, BOOTSTRAP)
    searched = evaluate("searched", first_items, trial, BOOTSTRAP, discovery=unseen_first)
    assert filtered.metrics == searched.metrics
    assert filtered.new_items["HR@10"] == searched.new_items["HR@10"]
    assert searched.new_items["Recall@50"].mean >= filtered.new_items["Recall@50"].mean


def test_prompts_of_its_own_are_what_the_ranker_reads_while_the_seen_stay_whole(trial):
    lengths = []

    def watch(prompts: Sequences, k: int) -> np.ndarray:
        lengths.extend(np.diff(prompts.offset).tolist())
        return np.full((len(prompts), k), -1)

    report = evaluate("short", watch, trial, BOOTSTRAP, prompts=trial.histories.last(3))
    assert max(lengths) == 3
    assert report.requests_with_new == int((trial.new_truth.size > 0).sum())


def test_prompts_that_do_not_match_the_requests_are_refused(trial):
    with pytest.raises(ValueError, match="prompts for"):
        evaluate("wrong", oracle(trial), trial, BOOTSTRAP, prompts=trial.histories.take(np.arange(3)))


def test_the_report_as_json_has_means_under_their_names_and_null_for_what_has_no_value(trial):
    report = evaluate("oracle", oracle(trial), trial, BOOTSTRAP)
    raw = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert raw["HR@10"] == 1.0
    assert raw["intervals"]["HR@10"] == [1.0, 1.0]
    assert raw["new_items"]["requests"] == report.requests_with_new
    empty = [part for part in raw["slices"] if part["requests"] == 0]
    assert empty
    assert all(part["HR@10"] is None for part in empty)


def test_a_ranking_is_measured_alike_in_batches_and_at_once(trial):
    draw = np.random.default_rng(0)
    items = len(trial.counts.popularity)
    ranking = np.stack([draw.permutation(items)[:DEPTH] for _ in range(len(trial))]).astype(np.int32)
    given = iter(range(len(trial)))

    def replay(prompts: Sequences, k: int) -> np.ndarray:
        return ranking[[next(given) for _ in range(len(prompts))]]

    report = evaluate("replayed", replay, trial, BOOTSTRAP)
    at_once = ranking_metrics(ranking, trial.truth)
    assert report.metrics["NDCG@10"].mean == pytest.approx(float(np.nanmean(at_once["NDCG@10"])))
    assert not math.isnan(report.beyond_accuracy["novelty@10"])
