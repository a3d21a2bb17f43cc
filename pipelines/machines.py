"""What a cluster gives the pod of a step that learns: nodes as `place` found them, and the claim of checkpoints."""

from collections.abc import Mapping
from typing import Any

from kfp import kubernetes
from kfp.dsl import PipelineTask

CLAIM, CHECKPOINTS = "nextpage-checkpoints", "/checkpoints"
"""The chart's claim, and where TrainJobs mount it too."""


def run_at(task: PipelineTask, placed: Mapping[str, Any]) -> None:
    """`placed` are the outputs of `place`. On one machine all of it is ignored."""
    task.set_accelerator_type(placed["accelerator"]).set_accelerator_limit(placed["accelerators"])
    kubernetes.add_node_selector_json(task, placed["node_selector"])
    kubernetes.add_toleration_json(task, placed["tolerations"])
    kubernetes.mount_pvc(task, pvc_name=CLAIM, mount_path=CHECKPOINTS)
