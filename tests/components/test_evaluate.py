import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kfp import dsl

from components.evaluate.component import evaluate
from components.evaluate.step import MODEL, Outcome, evaluate_candidate, model_prompts
from nextpage.evaluation.baselines import TITLES, own_frequency
from nextpage.evaluation.baselines import best as best_items
from nextpage.evaluation.bootstrap import BootstrapConfig
from nextpage.evaluation.config import EvaluationConfig
from nextpage.evaluation.gates import RecallGateConfig
from nextpage.evaluation.trial import Trial, read_trial
from nextpage.gates import Verdict
from nextpage.interactions.histories import requests
from nextpage.interactions.log import Dataset
from nextpage.interactions.sequences import Sequences
from nextpage.recipes import Recipe
from nextpage.recommender import Rankings, write_parts
from nextpage.release import FeatureService, seal
from nextpage.tokenizers.semantic_ids import SemanticIds
from tests.decoding.small import decoder

EVENTS = 20
"""What the feature store keeps of a history: less than all, so that prompts differ from histories."""

QUICK = EvaluationConfig(
    requests=40,
    generated_requests=10,
    generated_beams=4,
    bootstrap=BootstrapConfig(resamples=200),
    gate=RecallGateConfig(beat=("popularity",), on=("HR@10",), max_invalid_share=0.3),
)


class Frequent:
    """Stands in for a model: the user's own frequency; its prior puts the last item first. A code in four is wrong."""

    def __init__(self, semantic_ids: SemanticIds, *, helpless: bool = False) -> None:
        self.semantic_ids = semantic_ids
        self.helpless = helpless
        self.longest = 0

    def rankings(self, prompts: Sequences, k: int) -> Rankings:
        self.longest = max(self.longest, int(np.diff(prompts.offset).max()))
        if self.helpless:
            none = np.full((len(prompts), k), -1, dtype=np.int32)
            return Rankings(model=none, with_prior=none, new=none)
        score = own_frequency(prompts, len(self.semantic_ids.item_ids))
        mixed, new = score.copy(), -score
        mixed[np.arange(len(prompts)), prompts.item[prompts.offset[1:] - 1]] += 100
        return Rankings(model=best_items(score, k), with_prior=best_items(mixed, k), new=best_items(new, k))

    def generate_unconstrained(self, prompts: Sequences, beam_width: int) -> np.ndarray:
        generated = np.repeat(self.semantic_ids.codes[None, :beam_width], len(prompts), axis=0).copy()
        generated[:, 0] = self.semantic_ids.sizes
        return generated


@pytest.fixture
def semantic_ids(dataset: Dataset) -> SemanticIds:
    item_ids = np.array(pq.read_table(dataset.items)["item_id"].to_pylist(), dtype=object)
    place = np.arange(len(item_ids))
    return SemanticIds.sorted(item_ids, np.stack([place % 7, place // 16, place % 16], axis=1), sizes=(7, 16, 16))


@pytest.fixture
def features(dataset: Dataset, tmp_path: Path, semantic_ids: SemanticIds) -> Path:
    """evaluation.parquet as the feature store writes it, both splits, in an order of its own."""
    folder = tmp_path / "features"
    folder.mkdir()
    parts = [evaluation_table(dataset, semantic_ids, split) for split in ("test", "validation")]
    pq.write_table(pa.concat_tables(parts).sort_by([("as_of", "descending")]), folder / "evaluation.parquet")
    return folder


def evaluation_table(dataset: Dataset, semantic_ids: SemanticIds, split: str) -> pa.Table:
    asked = requests(dataset, semantic_ids.item_ids.tolist(), split=split)
    prompts = asked.prompts.last(EVENTS)
    offsets = pa.array(prompts.offset, pa.int32())

    def lists(values: np.ndarray) -> pa.Array:
        return pa.ListArray.from_arrays(offsets, pa.array(values))

    return pa.table(
        {
            "user_id": pa.array(prompts.user_id, pa.string()),
            "as_of": pa.array(prompts.as_of * 1_000_000, pa.timestamp("us", tz="UTC")),
            "request_id": pa.array(asked.request_id, pa.string()),
            "split": [split] * len(asked),
            "history_item": lists(semantic_ids.item_ids[prompts.item]),
            "history_behaviour": lists(prompts.behaviour.astype(np.int64)),
            "history_page": lists(prompts.page),
            "history_time": lists(prompts.time),
        }
    )


@pytest.fixture
def trial(dataset: Dataset, semantic_ids: SemanticIds) -> Trial:
    return read_trial(
        dataset,
        semantic_ids.item_ids.tolist(),
        split="test",
        limit=40,
        relevant=("ordered",),
        recent_days=56,
    )


def run(dataset: Dataset, features: Path, candidate: Frequent, folder: Path, *, has_prior: bool = True) -> Outcome:
    return evaluate_candidate(
        candidate,
        features,
        dataset.folder,
        folder / "metrics.json",
        folder / "card.md",
        config=QUICK,
        title="demo",
        has_prior=has_prior,
    )


def test_a_good_candidate_passes_with_figures_differences_and_a_card(dataset, features, semantic_ids, tmp_path):
    candidate = Frequent(semantic_ids)
    outcome = run(dataset, features, candidate, tmp_path)
    figures = json.loads((tmp_path / "metrics.json").read_text())
    assert outcome.recall.passed
    assert outcome.invalid_items.passed
    assert figures["hallucination_rate"] == 0.25
    assert set(figures["baselines"]) == set(TITLES)
    assert figures["model"]["HR@10"] == outcome.figures["model_HR_10"]
    difference = figures["differences"]["model"]["popularity"]["HR@10"]
    expected = figures["model"]["HR@10"] - figures["baselines"]["popularity"]["HR@10"]
    assert difference["mean"] == pytest.approx(expected)
    assert candidate.longest == EVENTS


def test_the_model_is_shown_alone_and_with_its_prior_and_they_differ(dataset, features, semantic_ids, tmp_path):
    run(dataset, features, Frequent(semantic_ids), tmp_path)
    figures = json.loads((tmp_path / "metrics.json").read_text())
    assert figures["model"]["HR@1"] != figures["model_with_prior"]["HR@1"]
    card = (tmp_path / "card.md").read_text()
    assert "**Model**" in card
    assert "**Model with prior**" in card


def test_new_items_are_ranked_by_a_search_of_their_own_and_what_prompts_have_forgotten_is_taken_out(
    dataset, features, semantic_ids, trial, tmp_path
):
    class Foreseeing(Frequent):
        """Among new items: first one that the prompt forgot and the history holds, then all that the page brings."""

        def rankings(self, prompts: Sequences, k: int) -> Rankings:
            new = np.full((len(prompts), k), -1, dtype=np.int32)
            for row in range(len(prompts)):
                forgotten = trial.histories.item[trial.histories.offset[row]]
                page = trial.new_truth.item[trial.new_truth.offset[row] : trial.new_truth.offset[row + 1]]
                new[row, : 1 + len(page)] = [forgotten, *page]
            return replace(super().rankings(prompts, k), new=new)

    run(dataset, features, Foreseeing(semantic_ids), tmp_path)
    figures = json.loads((tmp_path / "metrics.json").read_text())
    for name in ("model", "model_with_prior"):
        assert figures[name]["new_items"]["HR@1"] == 1.0
        assert figures[name]["new_items"]["Recall@50"] == 1.0
        assert figures[name]["HR@1"] < 1.0


def test_without_a_prior_only_the_model_alone_is_shown(dataset, features, semantic_ids, tmp_path):
    run(dataset, features, Frequent(semantic_ids), tmp_path, has_prior=False)
    figures = json.loads((tmp_path / "metrics.json").read_text())
    assert "model_with_prior" not in figures
    assert set(figures["differences"]) == {MODEL}


def test_a_candidate_that_does_not_beat_a_named_count_fails_and_its_card_says_so(
    dataset, features, semantic_ids, tmp_path
):
    outcome = run(dataset, features, Frequent(semantic_ids, helpless=True), tmp_path)
    assert not outcome.recall.passed
    card = (tmp_path / "card.md").read_text()
    assert "recall: FAILED" in card
    assert f"it loses to “{TITLES['popularity']}”" in card


def test_the_cards_words_follow_the_paired_intervals(dataset, features, semantic_ids, tmp_path):
    run(dataset, features, Frequent(semantic_ids), tmp_path)
    differences = json.loads((tmp_path / "metrics.json").read_text())["differences"]["model"]
    card = (tmp_path / "card.md").read_text()
    for name, title in TITLES.items():
        word, mean = re.search(rf"\| {re.escape(title)} \| \*\*([a-z ]+)\*\* ([+-][\d.]+)", card).groups()
        found = differences[name]["HR@10"]
        expected = "beats" if found["low"] > 0 else "loses to" if found["high"] < 0 else "level with"
        assert (word, float(mean)) == (expected, pytest.approx(found["mean"], abs=5e-4))


def test_prompts_come_in_the_order_of_the_requests_with_their_own_events(features, semantic_ids, trial):
    prompts = model_prompts(features / "evaluation.parquet", trial, semantic_ids.item_ids.tolist())
    assert prompts.user_id.tolist() == trial.user_id.tolist()
    assert np.array_equal(prompts.as_of, trial.histories.as_of)
    ordered = prompts.select(prompts.behaviour == 2)
    for row in range(len(trial)):
        mine = ordered.item[ordered.offset[row] : ordered.offset[row + 1]]
        whole = trial.histories.item[trial.histories.offset[row] : trial.histories.offset[row + 1]]
        assert mine.tolist() == whole[len(whole) - len(mine) :].tolist()


def test_a_request_that_the_features_lack_is_named(features, semantic_ids, trial, tmp_path):
    table = pq.read_table(features / "evaluation.parquet")
    kept = table.filter(pa.compute.not_equal(table["request_id"], trial.request_id[5]))
    pq.write_table(kept, tmp_path / "short.parquet")
    with pytest.raises(ValueError, match=rf"1 of 40 .*{trial.request_id[5]}.*build the features"):
        model_prompts(tmp_path / "short.parquet", trial, semantic_ids.item_ids.tolist())


def test_a_request_as_of_another_moment_is_named(features, semantic_ids, trial, tmp_path):
    table = pq.read_table(features / "evaluation.parquet")
    later = pa.compute.add(table["as_of"], pa.scalar(1_000_000, pa.duration("us")))
    pq.write_table(table.set_column(1, "as_of", later), tmp_path / "later.parquet")
    with pytest.raises(ValueError, match="build the features from this dataset"):
        model_prompts(tmp_path / "later.parquet", trial, semantic_ids.item_ids.tolist())


def test_the_component_evaluates_a_sealed_release_as_its_recipe_says(dataset, features, semantic_ids, tmp_path):
    evaluation = {
        "requests": 12,
        "generated_requests": 4,
        "generated_beams": 8,
        "bootstrap": {"resamples": 100},
        "gate": {"beat": ["own_recency"], "on": ["Recall@10"], "max_invalid_share": 1.0},
    }
    recipe = Recipe(name="test", sections={"evaluation": evaluation})
    candidate = untrained_release(semantic_ids, recipe, tmp_path / "candidate")
    outputs = {name: tmp_path / name for name in ("figures", "card", "recall", "invalid_items")}
    metrics = dsl.Metrics(uri=str(tmp_path / "metrics"))
    evaluate.python_func(
        candidate=dsl.Model(uri=str(candidate)),
        features=dsl.Dataset(uri=str(features)),
        clean=dsl.Dataset(uri=str(dataset.folder)),
        metrics=metrics,
        **{name: dsl.Artifact(uri=str(path)) for name, path in outputs.items()},
    )
    figures = json.loads(outputs["figures"].read_text())
    assert figures["model"]["requests"] == 12
    assert 0 < figures["hallucination_rate"] <= 1
    assert metrics.metadata["model_HR_10"] == figures["model"]["HR@10"]
    assert metrics.metadata["seconds"] > 0
    assert "# Model card: r1" in outputs["card"].read_text()
    assert not Verdict.read(outputs["recall"]).passed
    assert Verdict.read(outputs["invalid_items"]).passed


def untrained_release(semantic_ids: SemanticIds, recipe: Recipe, folder: Path) -> Path:
    items = pa.table({"item_id": pa.array(semantic_ids.item_ids, pa.string()), "orders": np.arange(200)})
    model = decoder(semantic_ids.sizes)
    write_parts(folder, decoder=model, semantic_ids=semantic_ids, items=items, recipe=recipe)
    seal(folder, name="r1", recipe=recipe.name, feature_service=FeatureService(name="recommender_r1", hash="f00d"))
    return folder
