"""Engines are kept where they are right, left out with a sentence where not, and the release stays what was sealed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from kfp import dsl

from components.optimise.card import step_card
from components.optimise.component import optimise as component
from components.optimise.config import OptimiseConfig
from components.optimise.step import judged, optimise
from components.optimise.trial import Asked, answers, read_asked
from nextpage.decoding.beam_search import Found
from nextpage.decoding.engines.choice import by_torch, choose_engine
from nextpage.decoding.engines.engine_folder import KEY, read_key
from nextpage.gates import Verdict
from nextpage.interactions.log import Dataset
from nextpage.recipes import Recipe
from nextpage.recommender import load_recommender, read_decoder
from nextpage.release import ENGINES, ReleaseRefused, verify
from nextpage.tokenizers.semantic_ids import SemanticIds
from tests.components.test_evaluate import evaluation_table, untrained_release

SECTION = {"requests": 12, "recall_margin": 1.0, "batches": [1, 2], "repeats": 2, "bootstrap": {"resamples": 50}}


@pytest.fixture
def semantic_ids(dataset: Dataset) -> SemanticIds:
    item_ids = np.array(pq.read_table(dataset.items)["item_id"].to_pylist(), dtype=object)
    place = np.arange(len(item_ids))
    return SemanticIds.sorted(item_ids, np.stack([place % 7, place // 16, place % 16], axis=1), sizes=(7, 16, 16))


@pytest.fixture
def features(dataset: Dataset, tmp_path: Path, semantic_ids: SemanticIds) -> Path:
    (tmp_path / "features").mkdir()
    parts = [evaluation_table(dataset, semantic_ids, split) for split in ("test", "validation")]
    pq.write_table(pa.concat_tables(parts), tmp_path / "features" / "evaluation.parquet")
    return tmp_path / "features"


@pytest.fixture
def release(semantic_ids: SemanticIds, tmp_path: Path) -> Path:
    return untrained_release(semantic_ids, Recipe(name="test", sections={"optimise": SECTION}), tmp_path / "release")


@pytest.fixture
def config(release: Path) -> OptimiseConfig:
    return Recipe(name="test", sections={"optimise": SECTION}).part("optimise", OptimiseConfig)


@pytest.fixture
def asked(release: Path, features: Path, dataset: Dataset) -> Asked:
    return read_asked(release, features, dataset.folder, split="validation", requests=12)


@pytest.fixture
def expected(release: Path, asked: Asked) -> Found:
    return answers(by_torch(read_decoder(release), torch.float32), asked, "reference")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_the_component_lays_engines_beside_a_release_that_stays_what_was_sealed(
    release: Path, features: Path, dataset: Dataset, tmp_path: Path
) -> None:
    made, card, verdict = tmp_path / "made", tmp_path / "card", tmp_path / "verdict"
    metrics = dsl.Metrics(uri=str(tmp_path / "metrics"))
    sealed = dsl.Model(uri=str(release))
    component.python_func(
        sealed=sealed,
        features=dsl.Dataset(uri=str(features)),
        clean=dsl.Dataset(uri=str(dataset.folder)),
        release=dsl.Model(uri=str(made)),
        verdict=dsl.Artifact(uri=str(verdict)),
        card=dsl.Markdown(uri=str(card)),
        metrics=metrics,
    )
    assert verify(made) == verify(release)
    assert Verdict.read(verdict).passed
    keys = {read_key(path).engine: read_key(path) for path in (made / ENGINES).iterdir()}
    assert set(keys) == {"onnx", "onnx-int8"}
    for name, key in keys.items():
        assert set(key.latency_ms) == set(key.torch_latency_ms) == {"1", "2"}
        assert metrics.metadata[f"{name.replace('-', '_')}_ms_2"] == key.latency_ms["2"] > 0
        loaded = load_recommender(made, engine=name)
        assert (loaded.chosen.name, loaded.chosen.fallbacks) == (name, ())
        assert key.release in (made / ENGINES / key.name / "card.md").read_text()
    assert metrics.metadata["seconds"] > 0
    assert "| onnx-int8 | yes |" in card.read_text()


def test_what_auto_takes_is_what_the_card_says(
    release: Path, features: Path, dataset: Dataset, tmp_path: Path, config: OptimiseConfig
) -> None:
    told = {"release": release, "features": features, "clean": dataset.folder, "config": config}
    outcome = optimise(**told, optimised=tmp_path / "made")
    manifest, decoder = verify(tmp_path / "made"), read_decoder(release)
    found = choose_engine("auto", decoder, tmp_path / "made", manifest.hash, dtype=torch.bfloat16)
    expected = outcome.fastest.engine if outcome.fastest else "torch"
    assert found.name == expected
    assert f"`{expected}` answers" in step_card(outcome) or "torch answers" in step_card(outcome)


def test_an_engine_that_cannot_be_built_is_left_out_and_the_others_are_not(
    release: Path,
    features: Path,
    dataset: Dataset,
    tmp_path: Path,
    config: OptimiseConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr("nextpage.decoding.engines.onnx_engine._quantise", broken)
    engines = ("tensorrt", "onnx-int8", "onnx") if not torch.cuda.is_available() else ("onnx-int8", "onnx")
    told = {"release": release, "features": features, "clean": dataset.folder, "optimised": tmp_path / "made"}
    outcome = optimise(**told, config=replace(config, engines=engines))
    assert [one.name for one in outcome.tried if one.key] == ["onnx"]
    assert [path.name.partition(".")[0] for path in (tmp_path / "made" / ENGINES).iterdir()] == ["onnx"]
    assert not outcome.verdict.passed
    assert "onnx-int8 is left out: it cannot be built and run here (out of luck)" in outcome.verdict.reasons
    verify(tmp_path / "made")


def test_in_fp32_other_scores_or_items_are_no_rounding(asked: Asked, expected: Found, config: OptimiseConfig) -> None:
    assert not judged("onnx", expected, expected, asked, config).refused
    rounded = Found(rows=expected.rows, log_prob=expected.log_prob + 5e-4)
    assert not judged("onnx", rounded, expected, asked, config).refused
    shifted = Found(rows=expected.rows, log_prob=expected.log_prob + 5e-3)
    assert "differ by 0.005, at most 0.001 is rounding" in judged("onnx", shifted, expected, asked, config).refused
    others = Found(rows=expected.rows.flip(0), log_prob=expected.log_prob)
    assert "of the items are others" in judged("onnx", others, expected, asked, config).refused


def test_rounded_an_engine_may_not_lose_recall(asked: Asked, expected: Found, config: OptimiseConfig) -> None:
    strict = replace(config, recall_margin=0.01)
    truth = asked.trial.truth
    right = torch.full_like(expected.rows, -1)
    for row in range(len(right)):
        items = truth.item[truth.offset[row] : truth.offset[row + 1]][:10]
        right[row, : len(items)] = torch.from_numpy(items)
    wrong = right.clone()
    wrong[:4] = -1
    good, bad = (Found(rows=rows, log_prob=expected.log_prob) for rows in (right, wrong))
    assert not judged("onnx-int8", good, good, asked, strict).refused
    assert not judged("onnx-int8", good, bad, asked, strict).refused
    assert "Recall@10 may be inferior: -0." in judged("onnx-int8", bad, good, asked, strict).refused


def test_a_release_with_a_changed_byte_gets_no_engines(
    release: Path, features: Path, dataset: Dataset, tmp_path: Path, config: OptimiseConfig
) -> None:
    (release / "items.parquet").write_bytes(b"other")
    told = {"release": release, "features": features, "clean": dataset.folder, "config": config}
    with pytest.raises(ReleaseRefused, match=r"items\.parquet is not the file"):
        optimise(**told, optimised=tmp_path / "made")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"engines": ("onnx", "abacus")}, "no engine abacus can be built: use onnx, onnx-int8, tensorrt"),
        ({"split": "test"}, "kept for evaluation"),
        ({"batches": (0,)}, "at least 1"),
        ({"score_bound": 0.0}, "must be positive"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        OptimiseConfig(**settings)


def test_an_engine_of_an_earlier_release_is_not_handed_on(
    release: Path, features: Path, dataset: Dataset, tmp_path: Path, config: OptimiseConfig
) -> None:
    stale = release / ENGINES / "onnx.elsewhere"
    stale.mkdir(parents=True)
    (stale / KEY).write_text("{}")
    told = {"release": release, "features": features, "clean": dataset.folder, "optimised": tmp_path / "made"}
    optimise(**told, config=replace(config, engines=()))
    assert not (tmp_path / "made" / ENGINES).exists()
