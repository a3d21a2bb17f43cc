"""What a cluster gives the pod of a step: nodes as `place` found them, claims, and secrets as environment.

On one machine all of it is ignored. Claims and secrets have fixed names, for a pipeline is compiled once.
"""

from collections.abc import Mapping
from typing import Any

from kfp import kubernetes
from kfp.dsl import PipelineTask

CLAIM, CHECKPOINTS = "nextpage-checkpoints", "/checkpoints"
"""The chart's claim, and where TrainJobs mount it too."""
RECORDS_CLAIM, RECORDS = "nextpage-records", "/records"
"""Of rollouts: what was registered, every verdict, and the event log where it is a folder."""
STORE_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL")


def at_checkpoints(task: PipelineTask) -> PipelineTask:
    kubernetes.mount_pvc(task, pvc_name=CLAIM, mount_path=CHECKPOINTS)
    return task


def run_at(task: PipelineTask, placed: Mapping[str, Any]) -> None:
    """`placed` are the outputs of `place`."""
    task.set_accelerator_type(placed["accelerator"]).set_accelerator_limit(placed["accelerators"])
    kubernetes.add_node_selector_json(task, placed["node_selector"])
    kubernetes.add_toleration_json(task, placed["tolerations"])
    at_checkpoints(task)


def acting(task: PipelineTask, title: str) -> PipelineTask:
    """A step of a rollout: it reads and writes records and releases, reads events, and is never cached."""
    kubernetes.mount_pvc(task, pvc_name=RECORDS_CLAIM, mount_path=RECORDS)
    secret_env(task, "nextpage-redis", password="NEXTPAGE_REDIS_PASSWORD")
    secret_env(task, "nextpage-store", **{key: key for key in STORE_KEYS})
    return task.set_caching_options(False).set_display_name(title)


def secret_env(task: PipelineTask, secret: str, **keys: str) -> None:
    """Each key of the Secret as an environment variable; a Secret that is not there is none."""
    kubernetes.use_secret_as_env(task, secret_name=secret, secret_key_to_env=keys, optional=True)
