"""What Kubeflow Trainer, JobSet and Kueue make of TrainJobs in a store: pods, logs, events, conditions.

Written after the sources of Trainer 2.3: `Failed` is for good, a deadline takes the pods away, and pods live on for a
while after either.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.trainjob.manifest import LAUNCH
from components.trainjob.witness import JOB, PLACE, RESTART
from tests.serving.rollout.api_server import ApiServer
from tests.serving.rollout.conftest import CRDS_HERE, validate
from tests.serving.rollout.store import Entry, Json, Key, Refusal, Store, copied

LASTS, GRACE = 12, 6  # calls of the API, which is how time goes by here
JOBS = ("trainer.kubeflow.org/v1alpha1", "trainjobs")


class TrainerStore(Store):
    """Refuses a TrainJob that the CRD's schema does not know."""

    def create(self, key: Key, sent: Json) -> Json:
        if key[1] == "trainjobs" and CRDS_HERE and (found := validate(sent)):
            raise Refusal(422, "Invalid", "; ".join(found))
        return super().create(key, sent)


@dataclass
class Running:
    """A TrainJob that the controller knows."""

    fate: str
    age: int = 0
    ended: bool = False
    pods: list[Key] = field(default_factory=list)


@dataclass
class Trainer:
    """`fates` of the TrainJobs in the order of their creation; the last one is that of all that follow:

    completes, fails, preempted; deadline (a pod is preempted, and then time is up); recovers (a pod is preempted, all
    start anew, and then it fails by itself); queued (Kueue holds it for a while, then it completes).
    """

    server: ApiServer
    result: Path
    fates: list[str]
    jobs: dict[Key, Running] = field(default_factory=dict)
    most_at_once: int = 0

    def __post_init__(self) -> None:
        self.server.store.settle = self.settle

    def settle(self) -> None:
        with self.server.store.changed:
            for key in [key for key in self.server.store.entries if key[:2] == JOBS and key not in self.jobs]:
                self.jobs[key] = Running(self.fates[min(len(self.jobs), len(self.fates) - 1)])
                if self.jobs[key].fate == "queued":
                    self._queue(key)
                else:
                    self._start(key, restart=0)

    def tick(self) -> None:
        with self.server.store.changed:
            for key, job in self.jobs.items():
                job.age += 1
                if key not in self.server.store.entries:
                    continue
                if not job.ended:
                    self._live(key, job)
                elif job.age == LASTS + GRACE:
                    self._end_pods(job)
            self.most_at_once = max(self.most_at_once, sum(self._has_pods(job) for job in self.jobs.values()))

    def _live(self, key: Key, job: Running) -> None:
        if job.fate == "queued" and job.age == LASTS // 2:
            live = self.server.store.entries[key].live
            live["spec"]["suspend"] = False
            self._condition(key, "Suspended", "False", "Resumed", "TrainJob is resumed")
            self._start(key, restart=0)
        if job.fate in ("preempted", "recovers", "deadline") and job.age == LASTS // 3:
            self._disrupt(job.pods[0])
        if job.fate == "recovers" and job.age == 2 * LASTS // 3:
            self._end_pods(job)
            self._start(key, restart=1)
        if job.age < LASTS:
            return
        job.ended = True
        match job.fate:
            case "completes" | "queued":
                self.result.parent.mkdir(parents=True, exist_ok=True)
                self.result.write_text("weights")
                for pod in job.pods:
                    self._pod(pod)["status"]["phase"] = "Succeeded"
                self._condition(key, "Complete", "True", "AllJobsCompleted", "jobset completed successfully")
            case "deadline":
                self._condition(key, "Failed", "True", "DeadlineExceeded", "TrainJob exceeded its active deadline")
            case _:
                failed = job.pods[-1]
                self._pod(failed)["status"]["phase"] = "Failed"
                self.server.logs[failed[3]] += _line(90, "ValueError: the loss is not finite")
                self._event("Pod", failed, "BackOff", "the container failed | for good")
                self._condition(key, "Failed", "True", "FailedJobs", "jobset failed due to one or more job failures")

    def _queue(self, key: Key) -> None:
        """As Kueue's webhook and its reconciler do."""
        spec = self.server.store.entries[key].live["spec"]
        spec["suspend"] = True
        spec["runtimePatches"][0]["time"] = "2026-01-01T00:00:00Z"
        spec["runtimePatches"].insert(0, {"manager": "kueue.x-k8s.io/manager"})
        self._condition(key, "Suspended", "True", "Suspended", "TrainJob is suspended")

    def _start(self, key: Key, *, restart: int) -> None:
        live = self.server.store.entries[key].live
        (patch,) = (patch for patch in live["spec"].get("runtimePatches", []) if "trainingRuntimeSpec" in patch)
        (patched,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
        template = patched["template"]["spec"]["template"]
        for place in range(live["spec"]["trainer"]["numNodes"]):
            pod: Key = ("v1", "pods", key[2], f"{key[3]}-node-0-{place}-{restart}")
            labels = {JOB: key[3], RESTART: str(restart), PLACE: str(place), **template["metadata"]["labels"]}
            made = {
                "metadata": {"name": pod[3], "namespace": pod[2], "labels": labels},
                "spec": copied(template["spec"]),
                "status": {"phase": "Running", "conditions": []},
            }
            self.server.store.entries[pod] = Entry(made)
            self.server.logs[pod[3]] = "".join(_line(second, f"step {second} of {pod[3]}") for second in range(3))
            self.jobs[key].pods.append(pod)

    def _disrupt(self, pod: Key) -> None:
        """The scheduler takes the pod for a more important one; its Job forgets it."""
        entry = self._pod(pod)
        entry["status"]["conditions"].append({"type": "DisruptionTarget", "status": "True"})
        self._event("Pod", pod, "Preempted", "Preempted by pod 6d3c on node gpu-7")

    def _end_pods(self, job: Running) -> None:
        for pod in job.pods:
            self.server.store.entries.pop(pod, None)
        job.pods.clear()

    def _has_pods(self, job: Running) -> bool:
        return any(self._pod(pod)["status"]["phase"] == "Running" for pod in job.pods)

    def _pod(self, pod: Key) -> Json:
        return self.server.store.entries[pod].live

    def _event(self, kind: str, about: Key, reason: str, message: str) -> None:
        name = f"{about[3]}.{len(self.server.store.entries)}"
        event: dict[str, Any] = {
            "metadata": {"name": name, "namespace": about[2]},
            "involvedObject": {"kind": kind, "name": about[3]},
            "reason": reason,
            "message": message,
            "lastTimestamp": "2026-01-01T00:01:00Z",
        }
        self.server.store.entries["v1", "events", about[2], name] = Entry(event)

    def _condition(self, key: Key, kind: str, status: str, reason: str, message: str) -> None:
        said = {"type": kind, "status": status, "reason": reason, "message": message}
        self.server.store.set_status(key, {"conditions": [said]})


def _line(second: int, said: str) -> str:
    return f"2026-01-01T00:{second // 60:02}:{second % 60:02}.5Z {said}\n"


def launched(trainer: Trainer) -> list[str]:
    """The names of all TrainJobs, each of which is of one launch."""
    assert len({live["metadata"]["labels"][LAUNCH] for live in trainer.server.store.all("trainjobs")}) <= 1
    return sorted(live["metadata"]["name"] for live in trainer.server.store.all("trainjobs"))
