"""The TrainJob as it is asked for, and whether one that is there is that one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.placement import Placement
from serving.rollout.cluster import Reference
from serving.rollout.manifests import Manifest

API_VERSION, KIND = "trainer.kubeflow.org/v1alpha1", "TrainJob"
RUNTIME = "nextpage-deepspeed"
"""The ClusterTrainingRuntime of the chart: image, volumes, security, and a node's CPU, memory and GPUs. A TrainJob's
own `resourcesPerNode` would take the place of all three, so it names none."""
LAUNCH, TRY = "nextpage/launch", "nextpage/try"
MANAGER = "nextpage/launcher"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """`python -m module --name=path …` on every node of a TrainJob. Tries of it are TrainJobs `name-1`, `name-2`, …"""

    name: str
    namespace: str
    module: str
    arguments: Mapping[str, Path]
    result: Path  # which is there once a try is complete
    placement: Placement

    @property
    def tries(self) -> Reference:
        return Reference(api_version=API_VERSION, kind=KIND, namespace=self.namespace)

    def manifest(self, number: int) -> Manifest:
        """Try `number`. What all nodes have in common is the runtime's; here stands what a run may choose."""
        placement = self.placement
        labels = {"app.kubernetes.io/part-of": "nextpage", LAUNCH: self.name}
        queue = {"kueue.x-k8s.io/queue-name": placement.queue} if placement.queue else {}
        trainer: dict[str, Any] = {
            "numNodes": placement.nodes,
            "numProcPerNode": placement.processes,
            "command": ["python", "-m", "torch.distributed.run", "-m", self.module],
            "args": [f"--{name}={path}" for name, path in self.arguments.items()],
            "env": [{"name": "DS_ACCELERATOR", "value": "cuda" if placement.accelerator else "cpu"}],
        }
        pod_spec = {"nodeSelector": placement.node_selector, "tolerations": placement.tolerations}
        pod = {
            "metadata": {"labels": labels},
            "spec": {name: value for name, value in pod_spec.items() if value},
        }
        job = {"name": "node", "template": {"spec": {"template": pod}}}
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "name": f"{self.name}-{number}",
                "namespace": self.namespace,
                "labels": {**labels, **queue, TRY: str(number)},
            },
            "spec": {
                "runtimeRef": {
                    "apiGroup": "trainer.kubeflow.org",
                    "kind": "ClusterTrainingRuntime",
                    "name": RUNTIME,
                },
                "activeDeadlineSeconds": placement.hours * 3600,
                "trainer": trainer,
                "runtimePatches": [
                    {"manager": MANAGER, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [job]}}}}
                ],
            },
        }


def differences(wanted: Any, live: Any, where: str = "") -> Iterator[str]:
    """Where `live` has not what is wanted. It may hold more: defaults, a time, the patches of a queue."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        for name, value in wanted.items():
            yield from differences(value, live.get(name), f"{where}.{name}")
    elif isinstance(wanted, list) and isinstance(live, list) and wanted and "manager" in wanted[0]:
        by_manager = {entry["manager"]: entry for entry in live}
        for entry in wanted:
            yield from differences(entry, by_manager.get(entry["manager"]), f"{where}[{entry['manager']}]")
    elif isinstance(wanted, list) and isinstance(live, list) and len(wanted) == len(live):
        for place, (want, have) in enumerate(zip(wanted, live, strict=True)):
            yield from differences(want, have, f"{where}[{place}]")
    elif wanted != live:
        yield where
