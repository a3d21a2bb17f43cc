"""The better of base and aligned model goes on; a killed alignment goes on where it was."""

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kfp import dsl

from components import processes
from components.align import step
from components.align.component import align as component
from nextpage.gates import Verdict
from nextpage.interactions.log import Dataset
from nextpage.recipes import Recipe, parse_recipe
from nextpage.recommender import load_recommender, write_parts
from nextpage.release import FeatureService, ReleaseRefused, read_manifest, seal, verify
from nextpage.tokenizers.item_tokenizer import ItemTokenizer
from nextpage.tokenizers.residual_kmeans import ResidualKMeans
from nextpage.tokenizers.semantic_ids import SemanticIds
from nextpage.training.checkpoints import steps as saved_steps
from tests.components.test_evaluate import evaluation_table
from tests.components.test_train import training_table
from tests.decoding.small import decoder
from tests.synthetic import write_dataset

SERVICE = FeatureService(name="recommender_tiny", hash="f00d")
SIZES = (16, 16, 16)
STEPS = 12
RECIPE = f"""name: tiny
decoding: {{beam_width: 50, bf16: false}}
evaluation: {{generated_requests: 4, generated_beams: 8}}
reward_model:
  minimum_auc: 0.5
  batch_pages: 16
  loop: {{steps: 8, checkpoint_every: 4}}
alignment:
  prompts: 2
  watched: 8
  policy: {{group: 4}}
  gate: {{requests: 16, bootstrap: {{resamples: 50}}}}
  loop: {{steps: {STEPS}, log_every: 4, checkpoint_every: 2}}
"""
"""Small, and of the alignment alone: the model is what `decoder` makes."""

STAND_IN = '''
"""Stands in for nextpage.alignment where a test is about what the step makes of an outcome."""
import argparse, json, pathlib
parser = argparse.ArgumentParser()
for name in ("release", "features", "dataset", "output"):
    parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
output = parser.parse_args().output
output.mkdir(parents=True)
(output / "outcome.json").write_text(OUTCOME)
(output / "course.jsonl").write_text(COURSE)
(output / "weights.safetensors").write_text("aligned")
'''


def found(*, passed: bool) -> dict[str, object]:
    """As the process writes it of a model whose reward rose."""
    base = {"reward@10": 0.2, "Recall@10": 0.1, "Recall@50": 0.3, "hallucination_rate": 0.02}
    aligned = base | {"reward@10": 0.25, "Recall@10": 0.11 if passed else 0.05}
    reason = "mean reward 0.2000 → 0.2500" if passed else "Recall@10 may be inferior: -0.0500"
    return {
        "verdict": {"gate": "alignment", "passed": passed, "reasons": [reason]},
        "base": base,
        "aligned": aligned,
        "differences": {
            name: {"mean": aligned[name] - base[name], "low": aligned[name] - base[name] - 0.01, "high": 0.06}
            for name in ("reward@10", "Recall@10", "Recall@50")
        },
        "reward_model": {"auc": 0.81, "user_auc": float("nan")},
        "objective": "policy",
        "trained": True,
    }


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_dataset(tmp_path_factory.mktemp("clean") / "dataset", users=20)


@pytest.fixture(scope="module")
def semantic_ids(clean: Dataset) -> SemanticIds:
    item_ids = np.array(pq.read_table(clean.items)["item_id"].to_pylist(), dtype=object)
    place = np.arange(len(item_ids))
    return SemanticIds.sorted(item_ids, np.stack([place % 7, place // 16, place % 16], axis=1), sizes=SIZES)


@pytest.fixture(scope="module")
def features(clean: Dataset, semantic_ids: SemanticIds, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features")
    pq.write_table(training_table(clean, semantic_ids), folder / "training.parquet")
    pq.write_table(evaluation_table(clean, semantic_ids, "validation"), folder / "evaluation.parquet")
    return folder


def write_base(folder: Path, semantic_ids: SemanticIds, recipe: Recipe) -> Path:
    """A sealed release as train leaves it, of a random model."""
    items = pa.table({"item_id": pa.array(semantic_ids.item_ids, pa.string()), "orders": np.arange(200)})
    write_parts(folder, decoder=decoder(SIZES), semantic_ids=semantic_ids, items=items, recipe=recipe)
    books = np.random.default_rng(0).normal(size=(3, 16, 8)).astype(np.float32)
    tokenizer = ItemTokenizer(
        encoder="none", weight=1.0, projection=np.zeros((1, 1), np.float32), quantiser=ResidualKMeans.of(books)
    )
    (folder / "tokenizer").mkdir()
    tokenizer.save(folder / "tokenizer")
    seal(folder, name="candidate", recipe=recipe.name, feature_service=SERVICE)
    return folder


@pytest.fixture
def base(semantic_ids: SemanticIds, tmp_path: Path) -> Path:
    return write_base(tmp_path / "base", semantic_ids, parse_recipe(RECIPE))


def stand_in(monkeypatch: pytest.MonkeyPatch, folder: Path, outcome: dict[str, object]) -> None:
    """From now on the step runs STAND_IN, which finds `outcome`."""
    lines = [{"step": step, **outcome[which]} for step, which in ((0, "base"), (4, "aligned"))]
    course = "".join(json.dumps(line) + "\n" for line in lines)
    script = folder / "stand_in.py"
    script.write_text(f"OUTCOME, COURSE = {json.dumps(outcome)!r}, {course!r}\n{STAND_IN}")

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess:
        assert command[:3] == [sys.executable, "-m", "nextpage.alignment"]
        return real([sys.executable, str(script), *command[3:]], **options)

    real = subprocess.run
    monkeypatch.setattr(processes, "subprocess", SimpleNamespace(run=run))


def run_component(base: Path, features: Path, clean: Dataset, folder: Path) -> dict[str, float]:
    """What the component logs; its outputs lie in `folder`, by name."""
    outputs = {name: dsl.Artifact(uri=str(folder / name)) for name in ("candidate", "outcome", "verdict", "card")}
    metrics = dsl.Metrics(uri=str(folder / "metrics"))
    component.python_func(
        base=dsl.Model(uri=str(base)),
        features=dsl.Dataset(uri=str(features)),
        clean=dsl.Dataset(uri=str(clean.folder)),
        **outputs,
        metrics=metrics,
        checkpoints=str(folder / "checkpoints"),
    )
    return metrics.metadata


def test_a_model_that_passes_takes_its_bases_place_with_the_outcome_in_its_release(
    base: Path, features: Path, clean: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, tmp_path, found(passed=True))
    metrics = run_component(base, features, clean, tmp_path)
    sealed, before = verify(tmp_path / "candidate"), read_manifest(base)
    assert (tmp_path / "candidate" / step.WEIGHTS).read_text() == "aligned"
    assert set(sealed.files) == {*before.files, "alignment.json"}
    assert {path for path in before.files if sealed.files[path] != before.files[path]} == {step.WEIGHTS}
    assert (sealed.name, sealed.recipe, sealed.feature_service) == ("candidate", "tiny", SERVICE)
    assert Verdict.read(tmp_path / "verdict").passed
    outcome = (tmp_path / "outcome").read_text()
    assert outcome == (tmp_path / "candidate" / "alignment.json").read_text()
    assert [line["reward@10"] for line in json.loads(outcome)["course"]] == [0.2, 0.25]
    assert json.loads(outcome)["recipe"]["rewards"]["terms"] == {"preference": 1.0}
    assert json.loads(outcome)["reward_model"]["user_auc"] is None
    expected = {"base_reward_10": 0.2, "aligned_reward_10": 0.25, "aligned_Recall_10": 0.11, "reward_model_auc": 0.81}
    assert expected.items() <= metrics.items()
    assert metrics["seconds"] > 0
    card = (tmp_path / "card").read_text()
    assert "the aligned model goes on" in card
    assert card.count("<svg") == 1
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_where_the_gate_does_not_pass_the_base_goes_on_and_the_run_says_what_broke(
    base: Path,
    features: Path,
    clean: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    stand_in(monkeypatch, tmp_path, found(passed=False))
    run_component(base, features, clean, tmp_path)
    sealed, before = verify(tmp_path / "candidate"), read_manifest(base)
    assert {path: sealed.files[path] for path in before.files} == before.files
    assert json.loads((tmp_path / "candidate" / "alignment.json").read_text())["aligned"]["Recall@10"] == 0.05
    assert not Verdict.read(tmp_path / "verdict").passed
    assert "the base goes on: Recall@10 may be inferior: -0.0500" in capsys.readouterr().out
    card = (tmp_path / "card").read_text()
    assert "the base goes on" in card
    assert "Recall@10 may be inferior" in card


def test_where_the_recipe_aligns_nothing_the_base_goes_on_and_the_card_shows_no_course(
    features: Path, clean: Dataset, semantic_ids: SemanticIds, tmp_path: Path
) -> None:
    """The real process."""
    recipe = parse_recipe(RECIPE).with_settings(["alignment.objective=none"])
    base = write_base(tmp_path / "base", semantic_ids, recipe)
    metrics = run_component(base, features, clean, tmp_path)
    sealed, before = verify(tmp_path / "candidate"), read_manifest(base)
    assert {path: sealed.files[path] for path in before.files} == before.files
    assert not json.loads((tmp_path / "candidate" / "alignment.json").read_text())["trained"]
    assert set(metrics) == {"seconds", "peak_memory_mb"}
    card = (tmp_path / "card").read_text()
    assert "objective is none" in card
    assert "<svg" not in card


def test_a_damaged_base_is_refused_before_anything_runs(
    base: Path, features: Path, clean: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "subprocess", SimpleNamespace(run=lambda *_, **__: pytest.fail("it ran")))
    with (base / step.WEIGHTS).open("r+b") as weights:
        weights.seek(-1, 2)
        weights.write(b"\x01")
    with pytest.raises(ReleaseRefused, match=r"weights\.safetensors is not the file"):
        run_component(base, features, clean, tmp_path)
    assert not (tmp_path / "candidate").exists()


def test_a_retry_finds_its_work_also_from_a_base_sealed_anew_and_other_inputs_never_do(
    base: Path,
    features: Path,
    clean: Dataset,
    semantic_ids: SemanticIds,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(command: list[str], **_: object) -> subprocess.CompletedProcess:
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(processes, "subprocess", SimpleNamespace(run=fail))
    inputs = {"base": base, "features": features, "clean": clean.folder}

    def work(**changed: Path) -> str:
        with pytest.raises(RuntimeError, match="alignment ended with status 1") as failed:
            step.align(**inputs | changed, candidate=tmp_path / "candidate", checkpoints=tmp_path / "checkpoints")
        return str(failed.value).split()[-1]

    first = work()
    seal(base, name="candidate", recipe="tiny", feature_service=SERVICE)
    assert work() == first
    other_recipe = parse_recipe(RECIPE).with_settings(["alignment.prompts=3"])
    other_features = tmp_path / "features"
    other_features.mkdir()
    for name in ("training.parquet", "evaluation.parquet"):
        pq.write_table(pq.read_table(features / name).slice(1), other_features / name)
    changed = (
        work(base=write_base(tmp_path / "other", semantic_ids, other_recipe)),
        work(features=other_features),
        work(clean=write_dataset(tmp_path / "dataset", users=21).folder),
    )
    assert len({first, *changed}) == 4


def kill_after_a_checkpoint(command: list[str], *, env: dict[str, str], check: bool) -> subprocess.CompletedProcess:
    """In place of subprocess.run: the process is killed once it has saved a step of alignment."""
    (output,) = (Path(part.removeprefix("--output=")) for part in command if part.startswith("--output="))
    process = subprocess.Popen(command, env=env)
    while not (output.is_dir() and saved_steps(output)):
        assert process.poll() is None, "alignment ended before its first checkpoint"
        time.sleep(0.01)
    process.kill()
    return subprocess.CompletedProcess(command, process.wait())


def test_a_killed_alignment_goes_on_where_it_was_and_ends_as_if_it_had_never_stopped(
    base: Path, features: Path, clean: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real process."""
    inputs = {"base": base, "features": features, "clean": clean.folder, "checkpoints": tmp_path / "checkpoints"}
    whole = step.align(**inputs, candidate=tmp_path / "whole")
    assert [line["step"] for line in whole["course"]] == [0, 4, 8, 12]
    with monkeypatch.context() as patched:
        patched.setattr(processes, "subprocess", SimpleNamespace(run=kill_after_a_checkpoint))
        with pytest.raises(RuntimeError, match="alignment ended with status -9"):
            step.align(**inputs, candidate=tmp_path / "unfinished")
    (work,) = (tmp_path / "checkpoints").iterdir()
    assert 0 < saved_steps(work)[-1] < STEPS
    resumed = step.align(**inputs, candidate=tmp_path / "resumed")
    assert resumed == whole
    assert verify(tmp_path / "resumed").files == verify(tmp_path / "whole").files
    moved = verify(tmp_path / "whole").files[step.WEIGHTS] != read_manifest(base).files[step.WEIGHTS]
    assert moved == whole["verdict"]["passed"]
    load_recommender(tmp_path / "resumed")
    assert list((tmp_path / "checkpoints").iterdir()) == []
