"""A run form's words for machines, and what becomes of them in a cluster."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler, dsl, kubernetes

from components.place.component import place
from components.placement import Placement

GPU = {"accelerator": "nvidia.com/gpu", "node_pool": "cloud.google.com/gke-nodepool=a100"}


def test_gpu_pods_go_to_their_pool_and_bear_its_taints() -> None:
    placement = Placement(**GPU)
    assert placement.node_selector == {"cloud.google.com/gke-nodepool": "a100"}
    pool, gpu = placement.tolerations
    assert pool == {
        "key": "cloud.google.com/gke-nodepool",
        "operator": "Equal",
        "value": "a100",
        "effect": "NoSchedule",
    }
    assert gpu == {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert (Placement().node_selector, Placement().tolerations) == ({}, [])


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({"nodes": 0}, "nodes is 0: at least 1"),
        ({"processes": -1}, "processes is -1"),
        ({"node_pool": "gpu-train"}, "node_pool is 'gpu-train': a label of its nodes as key=value"),
        ({"node_pool": "pool="}, "key=value"),
        ({"accelerator": "A100"}, "accelerator is 'A100': the resource's whole name, for example nvidia.com/gpu"),
    ],
)
def test_what_no_cluster_can_give_is_refused_with_a_remedy(given: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        Placement(**given)


def test_a_pod_that_only_launches_asks_for_none_of_the_pools_nodes(tmp_path: Path) -> None:
    outputs = {"card": dsl.Markdown(uri=str(tmp_path / "card")), "metrics": dsl.Metrics()}
    alone = place.python_func(**GPU, nodes=1, processes=8, **outputs)
    assert alone[:3] == ("nvidia.com/gpu", "8", {"cloud.google.com/gke-nodepool": "a100"})
    assert (
        "in their own pods, on nodes of cloud.google.com/gke-nodepool=a100: 8 × nvidia.com/gpu"
        in (tmp_path / "card").read_text()
    )
    assert place.python_func(**GPU, nodes=2, processes=8, **outputs) == ("", "1", {}, [])
    assert "launch a TrainJob of 2 nodes" in (tmp_path / "card").read_text()
    assert outputs["metrics"].metadata == {"nodes": 2.0, "processes": 16.0}


def test_a_pipeline_can_give_the_pod_of_a_step_what_place_found(tmp_path: Path) -> None:
    @dsl.component(base_image="python")
    def trained() -> None:
        pass

    @dsl.pipeline(name="placed")
    def placed(accelerator: str = "", node_pool: str = "", nodes: int = 1) -> None:
        at = place(accelerator=accelerator, node_pool=node_pool, nodes=nodes).outputs
        task = trained()
        task.set_accelerator_type(at["accelerator"]).set_accelerator_limit(at["accelerators"])
        kubernetes.add_node_selector_json(task, at["node_selector"])
        kubernetes.add_toleration_json(task, at["tolerations"])

    compiler.Compiler().compile(placed, str(tmp_path / "placed.yaml"))
    spec, platform = yaml.safe_load_all((tmp_path / "placed.yaml").read_text())
    resources = spec["deploymentSpec"]["executors"]["exec-trained"]["container"]["resources"]["accelerator"]
    assert "place-accelerator'" in resources["resourceType"]
    assert "place-accelerators'" in resources["resourceCount"]
    asked = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-trained"]
    selector = asked["nodeSelector"]["nodeSelectorJson"]["taskOutputParameter"]
    assert selector == {"outputParameterKey": "node_selector", "producerTask": "place"}
    (toleration,) = asked["tolerations"]
    assert toleration["tolerationJson"]["taskOutputParameter"]["outputParameterKey"] == "tolerations"
