"""Training survives a kill by the same inputs and no others; its candidate is a release that loads."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kfp import dsl

from components import processes
from components.placement import Placement
from components.train import step
from components.train.component import train as component
from nextpage.interactions.histories import training_histories
from nextpage.interactions.log import Dataset
from nextpage.recipes import parse_recipe
from nextpage.recommender import Query, load_recommender
from nextpage.release import read_manifest, verify
from nextpage.tokenizers.semantic_ids import SemanticIds
from nextpage.training.checkpoints import steps as saved_steps
from serving.rollout.cluster import Cluster
from tests.components.trainjob.conftest import Ticking
from tests.components.trainjob.trainer import JOBS, Trainer, TrainerStore
from tests.serving.rollout.api_server import ApiServer
from tests.synthetic import write_dataset

STEPS = 120
RECIPE = f"""name: tiny
model: {{width: 16, heads: 2, kv_heads: 1, head_width: 8, mlp_width: 16, layers: 1}}
training: {{steps: {STEPS}, batch_tokens: 600, log_every: 1, checkpoint_every: 2}}
decoding: {{beam_width: 8, bf16: false}}
"""


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_dataset(tmp_path_factory.mktemp("clean") / "dataset", users=20)


@pytest.fixture(scope="module")
def semantic_ids(clean: Dataset) -> SemanticIds:
    item_ids = np.array(pq.read_table(clean.items)["item_id"].to_pylist(), dtype=object)
    place = np.arange(len(item_ids))
    return SemanticIds.sorted(item_ids, np.stack([place % 7, place // 16, place % 16], axis=1), sizes=(7, 16, 16))


@pytest.fixture(scope="module")
def inputs(clean: Dataset, semantic_ids: SemanticIds, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of the features and tokenize steps, and a resolved recipe."""
    folder = tmp_path_factory.mktemp("inputs")
    for name in ("features", "tokenizer"):
        (folder / name).mkdir()
    pq.write_table(training_table(clean, semantic_ids), folder / "features" / "training.parquet")
    service = {"service": "recommender_tiny", "service_hash": "f00d"}
    (folder / "features" / "features.json").write_text(json.dumps(service))
    semantic_ids.write(folder / "tokenizer" / "semantic_ids.parquet")
    (folder / "tokenizer" / "quality.json").write_text("{}")
    (folder / "recipe").write_text(RECIPE)
    return {name: folder / name for name in ("features", "tokenizer", "recipe")}


def training_table(clean: Dataset, semantic_ids: SemanticIds) -> pa.Table:
    """As the feature store writes it: one row a user, the later half to be learnt."""
    history = training_histories(clean, semantic_ids.item_ids.tolist())
    offsets = pa.array(history.offset, pa.int32())
    middle = history.time[(history.offset[:-1] + history.offset[1:]) // 2]

    def lists(values: np.ndarray) -> pa.Array:
        return pa.ListArray.from_arrays(offsets, pa.array(values))

    return pa.table(
        {
            "user_id": pa.array(history.user_id, pa.string()),
            "as_of": pa.array(history.as_of * 1_000_000, pa.timestamp("us", tz="UTC")),
            "target_from": pa.array(middle * 1_000_000, pa.timestamp("us", tz="UTC")),
            "history_item": lists(semantic_ids.item_ids[history.item]),
            "history_behaviour": lists(history.behaviour.astype(np.int64)),
            "history_page": lists(history.page),
            "history_time": lists(history.time),
        }
    )


def kill_after_a_checkpoint(command: list[str], *, env: dict[str, str], check: bool) -> subprocess.CompletedProcess:
    """In place of subprocess.run: the process is killed once it has saved, somewhere in its next steps."""
    (output,) = (Path(part.removeprefix("--output=")) for part in command if part.startswith("--output="))
    process = subprocess.Popen(command, env=env)
    while not saved_steps(output):
        assert process.poll() is None, "training ended before its first checkpoint"
        time.sleep(0.01)
    process.kill()
    return subprocess.CompletedProcess(command, process.wait())


def test_a_killed_training_goes_on_where_it_was_and_its_candidate_is_a_release_that_answers(
    inputs: dict[str, Path],
    clean: Dataset,
    semantic_ids: SemanticIds,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(processes.subprocess, "run", kill_after_a_checkpoint)
        with pytest.raises(RuntimeError, match=r"training ended with status -9.* run the step again") as killed:
            step.train(**inputs, model=tmp_path / "unfinished", checkpoints=tmp_path / "checkpoints")
    (work,) = (tmp_path / "checkpoints").iterdir()
    assert str(work) in str(killed.value)
    saved = saved_steps(work)[-1]
    assert saved < STEPS
    before = (work / "log.jsonl").read_text().splitlines()[:saved]

    outputs = {name: dsl.Artifact(uri=str(tmp_path / name)) for name in ("model", "candidate", "card")}
    metrics = dsl.Metrics(uri=str(tmp_path / "metrics"))
    component.python_func(
        **{name: dsl.Artifact(uri=str(path)) for name, path in inputs.items()},
        clean=dsl.Dataset(uri=str(clean.folder)),
        **outputs,
        metrics=metrics,
        checkpoints=str(tmp_path / "checkpoints"),
    )
    log = (tmp_path / "model" / "log.jsonl").read_text().splitlines()
    assert log[:saved] == before  # with their times: these steps were not done again
    assert [json.loads(line)["step"] for line in log] == list(range(1, STEPS + 1))
    assert list((tmp_path / "checkpoints").iterdir()) == []
    assert metrics.metadata["loss"] == json.loads(log[-1])["loss"] < json.loads(log[0])["loss"]
    assert metrics.metadata["seconds"] > 0

    manifest = verify(tmp_path / "candidate")
    assert (manifest.name, manifest.recipe) == ("candidate", "tiny")
    assert manifest.hash[:12] in (tmp_path / "card").read_text()
    recommender = load_recommender(tmp_path / "candidate")
    assert recommender.feature_service.name == "recommender_tiny"
    assert recommender.recipe == parse_recipe(RECIPE)
    asked = Query(item_ids=["i0003"], behaviours=[2], pages=[0], times=[0], as_of=86_400, k=5)
    assert len(recommender.recommend([asked])[0]) == 5


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What would have been run; each of it fails."""
    seen: list[list[str]] = []

    def refuse(command: list[str], **_: object) -> subprocess.CompletedProcess:
        seen.append(command)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(processes.subprocess, "run", refuse)
    return seen


def output_of(inputs: dict[str, Path], folder: Path, commands: list[list[str]]) -> str:
    with pytest.raises(RuntimeError, match="training ended with status 1"):
        step.train(**inputs, model=folder / "model", checkpoints=folder / "checkpoints")
    (output,) = (part for part in commands[-1] if part.startswith("--output="))
    return output


def test_a_retry_finds_its_checkpoints_and_other_inputs_never_do(
    inputs: dict[str, Path], semantic_ids: SemanticIds, tmp_path: Path, commands: list[list[str]]
) -> None:
    first = output_of(inputs, tmp_path, commands)
    assert output_of(inputs, tmp_path, commands) == first

    (tmp_path / "recipe").write_text(RECIPE.replace(f"steps: {STEPS}", "steps: 121"))
    (tmp_path / "features").mkdir()
    table = pq.read_table(inputs["features"] / "training.parquet")
    pq.write_table(table.slice(1), tmp_path / "features" / "training.parquet")
    (tmp_path / "tokenizer").mkdir()
    codes = semantic_ids.codes[:, [0, 2, 1]]
    other = SemanticIds.sorted(semantic_ids.item_ids, codes, sizes=(7, 16, 16))
    other.write(tmp_path / "tokenizer" / "semantic_ids.parquet")
    changed = [output_of(inputs | {name: tmp_path / name}, tmp_path, commands) for name in inputs]
    assert len({first, *changed}) == 1 + len(inputs)


class Nodes(Trainer):
    """Really runs what a TrainJob says, each node as a process that has what Trainer gives it to find the others."""

    def settle(self) -> None:
        fresh = [key for key in self.server.store.entries if key[:2] == JOBS and key not in self.jobs]
        super().settle()
        for key in fresh:
            asked = self.server.store.entries[key].live["spec"]["trainer"]
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            group = {"PET_NNODES": asked["numNodes"], "PET_NPROC_PER_NODE": asked["numProcPerNode"]}
            group |= {"PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": port}
            group |= {variable["name"]: variable["value"] for variable in asked["env"]}
            nodes = [
                subprocess.Popen(
                    [sys.executable, *asked["command"][1:], *asked["args"]],
                    env=os.environ | {name: str(value) for name, value in (group | {"PET_NODE_RANK": rank}).items()},
                )
                for rank in range(asked["numNodes"])
            ]
            assert [node.wait() for node in nodes] == [0, 0]


def test_many_nodes_train_from_what_lies_in_the_shared_folder_alone(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipe").write_text(RECIPE.replace(f"steps: {STEPS}", "steps: 2"))
    asked = inputs | {"recipe": tmp_path / "recipe", "checkpoints": tmp_path / "claim"}

    nodes = Nodes(ApiServer(TrainerStore()), tmp_path / "elsewhere", ["completes"])
    (tmp_path / "namespace").write_text("shop")
    monkeypatch.setattr(processes, "NAMESPACE", tmp_path / "namespace")
    client = Cluster(Ticking(nodes), sleep=lambda seconds: None)
    monkeypatch.setattr("serving.rollout.cluster.connect", lambda *_, **__: client)
    last = step.train(**asked, model=tmp_path / "model", placement=Placement(nodes=2))

    (job,) = nodes.server.store.all("trainjobs")
    told = [argument.partition("=")[2] for argument in job["spec"]["trainer"]["args"]]
    assert all(Path(path).is_relative_to(tmp_path / "claim") for path in told)
    assert last["step"] == 2
    assert {path.name for path in (tmp_path / "model").iterdir()} == {step.WEIGHTS, step.DECODER, step.LOG}
    assert list((tmp_path / "claim").iterdir()) == []


def test_orders_are_counted_in_training_only_and_stand_in_the_items_own_rows(
    inputs: dict[str, Path], clean: Dataset, semantic_ids: SemanticIds, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    for name in (step.WEIGHTS, step.DECODER):
        (tmp_path / "model" / name).write_text("{}")
    candidate = tmp_path / "candidate"
    step.make_candidate(**inputs, clean=clean.folder, model=tmp_path / "model", candidate=candidate)
    items = pq.read_table(candidate / "items.parquet")
    assert items["item_id"].to_pylist() == semantic_ids.item_ids.tolist()
    expected = dict.fromkeys(semantic_ids.item_ids.tolist(), 0)
    for row in pq.read_table(clean.interactions).to_pylist():
        if row["behaviour"] == "ordered" and row["timestamp"] < clean.split().validation_start:
            expected[row["item_id"]] += 1
    assert dict(zip(items["item_id"].to_pylist(), items["orders"].to_pylist(), strict=True)) == expected
    assert sum(expected.values()) > 0
    text = dict(zip(*(pq.read_table(clean.items)[name].to_pylist() for name in ("item_id", "text")), strict=True))
    assert items["text"].to_pylist() == [text[item_id] for item_id in items["item_id"].to_pylist()]


def test_the_candidate_holds_what_the_trained_model_and_the_tokenizer_left(
    inputs: dict[str, Path], clean: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    for name in (step.WEIGHTS, step.DECODER, step.LOG):
        (tmp_path / "model" / name).write_text(name)
    candidate = tmp_path / "candidate"
    sealed = step.make_candidate(**inputs, clean=clean.folder, model=tmp_path / "model", candidate=candidate)
    assert set(sealed.files) == {
        *(step.WEIGHTS, step.DECODER, step.LEARNT_FROM, "recipe.yaml", "items.parquet", "semantic_ids.parquet"),
        "tokenizer/quality.json",
    }
    assert read_manifest(candidate).feature_service.hash == "f00d"
    assert (candidate / "recipe.yaml").read_text() == RECIPE
