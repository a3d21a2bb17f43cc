"""What is asked of Kubeflow Trainer is what its CRD knows, and another's TrainJob is told from ours."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.placement import Placement
from components.trainjob.manifest import Launch, differences
from tests.serving.rollout.conftest import CRDS_HERE, validate

GPU = Placement(nodes=4, processes=8, accelerator="nvidia.com/gpu", node_pool="pool=gpu-train", queue="gpu", hours=48)
LAUNCH = Launch(
    name="nextpage-alignment-0123456789abcdef",
    namespace="shop",
    module="nextpage.alignment",
    arguments={"release": Path("/checkpoints/f00d/inputs/release"), "output": Path("/checkpoints/f00d")},
    result=Path("/checkpoints/f00d/outcome.json"),
    placement=GPU,
)


@pytest.mark.skipif(not CRDS_HERE, reason="the CRDs lie beside the repository")
@pytest.mark.parametrize("placement", [GPU, Placement(nodes=2)], ids=["gpu", "cpu"])
def test_a_trainjob_is_what_the_crd_knows(placement: Placement) -> None:
    manifest = replace(LAUNCH, placement=placement).manifest(1)
    assert validate(manifest) == []
    manifest["spec"]["podTemplateOverrides"] = []  # of an older Trainer
    assert validate(manifest)


def test_a_trainjob_says_what_to_run_and_where() -> None:
    spec = LAUNCH.manifest(2)["spec"]
    trainer = spec["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"], spec["activeDeadlineSeconds"]) == (4, 8, 48 * 3600)
    assert trainer["command"] == ["python", "-m", "torch.distributed.run", "-m", "nextpage.alignment"]
    assert trainer["args"] == ["--release=/checkpoints/f00d/inputs/release", "--output=/checkpoints/f00d"]
    assert trainer["env"] == [{"name": "DS_ACCELERATOR", "value": "cuda"}]
    bare = replace(LAUNCH, placement=Placement(nodes=2)).manifest(1)
    assert bare["spec"]["trainer"]["env"] == [{"name": "DS_ACCELERATOR", "value": "cpu"}]
    assert not any("kueue" in label for label in bare["metadata"]["labels"])


def test_cpu_memory_and_gpus_of_a_node_are_left_to_the_runtime() -> None:
    """Trainer puts `resourcesPerNode` in place of the runtime's, so GPUs alone would lose the bounds of the others."""
    assert "resourcesPerNode" not in LAUNCH.manifest(1)["spec"]["trainer"]


def test_names_of_pods_fit_where_names_are_labels() -> None:
    name = LAUNCH.manifest(99)["metadata"]["name"]
    assert name == "nextpage-alignment-0123456789abcdef-99"
    assert len(f"{name}-node-0-15") <= 63


def changed(path: str, value: Any) -> dict[str, Any]:
    spec = deepcopy(LAUNCH.manifest(1)["spec"])
    *above, last = path.split(".")
    place = spec
    for name in above:
        place = place[int(name) if name.isdigit() else name]
    place[last] = value
    return spec


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("trainer.numNodes", 5, "spec.trainer.numNodes"),
        ("trainer.args", ["--output=/elsewhere"], "spec.trainer.args"),
        ("trainer.command", ["sleep", "-m", "torch.distributed.run", "-m", "x"], "spec.trainer.command[0]"),
        ("runtimeRef.name", "torch-distributed", "spec.runtimeRef.name"),
        ("runtimePatches", [], "spec.runtimePatches[nextpage/launcher]"),
        ("runtimePatches.0.manager", "theirs/own", "spec.runtimePatches[nextpage/launcher]"),
    ],
)
def test_a_field_that_differs_is_named(path: str, value: object, where: str) -> None:
    assert next(differences(LAUNCH.manifest(1)["spec"], changed(path, value), "spec")) == where


def test_what_a_server_and_a_queue_add_is_no_difference() -> None:
    live = deepcopy(LAUNCH.manifest(1)["spec"])
    live["runtimePatches"][0]["time"] = "2026-01-01T00:00:00Z"
    live["runtimePatches"].insert(0, {"manager": "kueue.x-k8s.io/manager", "trainingRuntimeSpec": {}})
    live |= {"suspend": True, "managedBy": "trainer.kubeflow.org/trainjob-controller"}
    assert list(differences(LAUNCH.manifest(1)["spec"], live, "spec")) == []
