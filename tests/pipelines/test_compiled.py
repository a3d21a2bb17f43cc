"""The compiled pipeline, as the cluster gets it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from components.images import BASE_IMAGE
from pipelines.compiler import compile_pipelines

STEPS = {
    "configure",
    "ingest",
    "validate",
    "features",
    "tokenize",
    "place",
    "train",
    "align",
    "evaluate",
    "release",
    "monitor",
    "report",
}
AFTER = {
    "features": "require",
    "tokenize": "require",
    "train": "require-2",
    "release": "require-4",
}
"""Which gate each step waits on, beside what it reads."""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return compiled(tmp_path_factory.mktemp("compiled"), "recommender")


@pytest.fixture(scope="module")
def on_kubernetes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each executor's pod asks of the cluster: the second document."""
    (path, *_) = compile_pipelines(tmp_path_factory.mktemp("platform"))
    _, platform = yaml.safe_load_all(path.read_text())
    asked: dict[str, Any] = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return asked


def compiled(folder: Path, name: str) -> dict[str, Any]:
    found = {path.stem: path for path in compile_pipelines(folder)}
    assert found[name].stat().st_size < 1 << 20
    loaded: dict[str, Any] = next(yaml.safe_load_all(found[name].read_text()))
    return loaded


def test_kfp_accepts_the_yaml(spec: dict[str, Any]) -> None:
    parsed = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    assert parsed.pipeline_info.name == "nextpage-recommender"


def test_the_run_form_has_at_most_fifteen_parameters_each_with_a_default_and_a_description(
    spec: dict[str, Any],
) -> None:
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert 10 <= len(parameters) <= 15
    for name, parameter in parameters.items():
        assert "defaultValue" in parameter or parameter.get("isOptional"), name
        assert len(parameter["description"]) > 10, name


def test_all_steps_are_there_and_each_runs_in_our_image(spec: dict[str, Any]) -> None:
    tasks = spec["root"]["dag"]["tasks"]
    assert {name for name in tasks if not name.startswith(("require", "condition"))} == STEPS
    images = {executor["container"]["image"] for executor in spec["deploymentSpec"]["executors"].values()}
    assert images == {BASE_IMAGE}


def test_every_step_waits_on_the_gate_before_it(spec: dict[str, Any]) -> None:
    tasks = spec["root"]["dag"]["tasks"]
    for step, gate in AFTER.items():
        assert gate in tasks[step]["dependentTasks"], step


def test_what_is_evaluated_and_released_is_what_align_hands_on_whatever_its_verdict(spec: dict[str, Any]) -> None:
    tasks = spec["root"]["dag"]["tasks"]
    for step in ("evaluate", "release"):
        source = tasks[step]["inputs"]["artifacts"]["candidate"]["taskOutputArtifact"]
        assert source == {"outputArtifactKey": "candidate", "producerTask": "align"}, step
    required = [task["inputs"]["artifacts"]["verdict"] for name, task in tasks.items() if name.startswith("require")]
    assert "align" not in {verdict["taskOutputArtifact"]["producerTask"] for verdict in required}


def test_steps_that_learn_run_where_the_form_says_and_keep_checkpoints_on_the_claim(
    spec: dict[str, Any], on_kubernetes: dict[str, Any]
) -> None:
    assert set(on_kubernetes) == {"exec-train", "exec-align"}
    for name, asked in on_kubernetes.items():
        accelerator = spec["deploymentSpec"]["executors"][name]["container"]["resources"]["accelerator"]
        assert "place-accelerator'" in accelerator["resourceType"]
        assert "place-accelerators'" in accelerator["resourceCount"]
        selector = asked["nodeSelector"]["nodeSelectorJson"]["taskOutputParameter"]
        (toleration,) = (entry["tolerationJson"]["taskOutputParameter"] for entry in asked["tolerations"])
        assert [selector["outputParameterKey"], toleration["outputParameterKey"]] == ["node_selector", "tolerations"]
        (claim,) = asked["pvcMount"]
        assert (claim["constant"], claim["mountPath"]) == ("nextpage-checkpoints", "/checkpoints")
        inputs = spec["root"]["dag"]["tasks"][name.removeprefix("exec-")]["inputs"]["parameters"]
        for parameter in ("accelerator", "node_pool", "nodes"):
            assert inputs[parameter] == {"componentInputParameter": parameter}, name
    checkpoints = spec["root"]["inputDefinitions"]["parameters"]["checkpoints"]
    assert checkpoints["defaultValue"] == "/checkpoints"


def test_steps_that_act_are_never_cached(spec: dict[str, Any]) -> None:
    tasks = spec["root"]["dag"]["tasks"]
    cached = {name for name, task in tasks.items() if task.get("cachingOptions", {}).get("enableCache")}
    assert cached.isdisjoint({"features", "monitor"})
    assert {"ingest", "tokenize", "train", "align"} <= cached


def test_a_release_is_rolled_out_only_where_configure_found_a_rollout(spec: dict[str, Any]) -> None:
    condition = spec["root"]["dag"]["tasks"]["condition-1"]
    said = condition["inputs"]["parameters"]["pipelinechannel--configure-Output"]["taskOutputParameter"]
    assert said["producerTask"] == "configure"
    assert (
        spec["components"]["comp-configure"]["outputDefinitions"]["parameters"]["Output"]["parameterType"] == "BOOLEAN"
    )
    assert condition["triggerPolicy"]["condition"].endswith("['pipelinechannel--configure-Output'] == true")
    assert "release" in condition["dependentTasks"]
    tasks = spec["components"]["comp-condition-1"]["dag"]["tasks"]
    assert set(tasks) == {"deploy", "canary", "act"}
    assert tasks["canary"]["dependentTasks"] == ["deploy"]
    assert tasks["canary"]["inputs"]["parameters"]["wait"]["runtimeValue"]["constant"] is True
    assert tasks["act"]["dependentTasks"] == ["canary"]
    assert not any(task["cachingOptions"].get("enableCache") for task in tasks.values())


def test_the_recurring_pipeline_looks_by_both_gates_before_it_acts_and_caches_nothing(tmp_path: Path) -> None:
    rollout = compiled(tmp_path, "rollout")
    parsed = json_format.ParseDict(rollout, pipeline_spec_pb2.PipelineSpec())
    assert parsed.pipeline_info.name == "nextpage-rollout"
    tasks = rollout["root"]["dag"]["tasks"]
    assert {name: task["taskInfo"]["name"] for name, task in tasks.items()} == {
        "canary": "operational canary",
        "gate": "A/B test",
        "act": "move traffic",
    }
    assert tasks["act"]["dependentTasks"] == ["canary", "gate"]
    read = {name: source["taskOutputArtifact"] for name, source in tasks["act"]["inputs"]["artifacts"].items()}
    assert {name: (source["producerTask"], source["outputArtifactKey"]) for name, source in read.items()} == {
        "canary": ("canary", "record"),
        "experiment": ("gate", "record"),
    }
    assert not any(task["cachingOptions"].get("enableCache") for task in tasks.values())
    for parameter in rollout["root"]["inputDefinitions"]["parameters"].values():
        assert len(parameter["description"]) > 10


def test_compiling_twice_gives_the_same_file(tmp_path: Path) -> None:
    first, second = (compile_pipelines(tmp_path / name)[0].read_text() for name in "ab")
    assert first == second
