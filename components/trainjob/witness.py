"""What a TrainJob's pods say and suffer, kept: pods that are gone cannot be asked."""

from dataclasses import dataclass, field

from serving.rollout.cluster import Cluster, Reference
from serving.rollout.manifests import Manifest

JOB, RESTART = "jobset.sigs.k8s.io/jobset-name", "jobset.sigs.k8s.io/restart-attempt"
PLACE = "batch.kubernetes.io/job-completion-index"
ENDED = ("Succeeded", "Failed")
KEPT = 40
"""Lines of each pod that stand in the account of a failure."""


@dataclass
class Witness:
    """Looks at one TrainJob's pods, prints what the first node says, and remembers who was disrupted."""

    cluster: Cluster
    job: Reference
    lines: dict[str, list[str]] = field(default_factory=dict)  # the last ones of each pod, with their times
    restart: int = 0  # JobSet's newest, of all nodes together
    disrupted: int = -1  # the newest restart of which a pod was preempted, evicted or drained
    _standing: str = ""

    def look(self) -> None:
        pods = self.cluster.list(pods_of(self.job.namespace), {JOB: self.job.name})
        for pod in pods:
            restart = int(pod["metadata"].get("labels", {}).get(RESTART, 0))
            self.restart = max(self.restart, restart)
            if is_disrupted(pod):
                self.disrupted = max(self.disrupted, restart)
        for pod in pods:
            first = pod["metadata"].get("labels", {}).get(PLACE) == "0"
            if first or pod.get("status", {}).get("phase") == "Failed":
                self._read(pod["metadata"]["name"], show=first)
        self._say_how_it_stands(pods)

    @property
    def preempted(self) -> bool:
        """Whether the last time that all nodes were started, one was taken away."""
        return self.disrupted >= self.restart

    def account(self, heading: str) -> str:
        """What became of the TrainJob, as Markdown: `heading`, its events, the last lines of its pods."""
        all_events = self.cluster.list(
            Reference(api_version="v1", kind="Event", namespace=self.job.namespace, name=""), {}
        )
        ours = [event for event in all_events if f"{_about(event)}-".startswith(f"{self.job.name}-")]
        rows = "\n".join(f"| {' | '.join(_cells(event))} |" for event in sorted(ours, key=_time)[-20:])
        said = [
            f"## Last lines of {pod}\n\n~~~~\n" + "\n".join(line.partition(" ")[2] for line in lines) + "\n~~~~\n"
            for pod, lines in self.lines.items()
        ]
        events = f"## Events\n\n| time | object | reason | message |\n|---|---|---|---|\n{rows}\n"
        return "\n".join([f"# {heading}\n", events, *said])

    def _read(self, pod: str, *, show: bool) -> None:
        """New lines of a pod's log. Times are asked for, so that a line is found again."""
        before = self.lines.get(pod, [])
        query = {"container": "node", "timestamps": "true", "limitBytes": str(1 << 20)}
        query |= {"sinceTime": before[-1].partition(" ")[0]} if before else {"tailLines": "500"}
        path = f"{pods_of(self.job.namespace).path}/{pod}/log"
        lines = self.cluster.text(path, query).splitlines()
        if before and before[-1] in lines:
            lines = lines[lines.index(before[-1]) + 1 :]
        if lines:
            self.lines[pod] = [*before, *lines][-KEPT:]
        if show:
            for line in lines:
                print(line.partition(" ")[2], flush=True)

    def _say_how_it_stands(self, pods: list[Manifest]) -> None:
        phases = [pod.get("status", {}).get("phase", "Pending") for pod in pods]
        counts = ", ".join(f"{phases.count(phase)} {phase}" for phase in sorted(set(phases))) or "none"
        waits = sorted({message for pod in pods if (message := _unscheduled(pod))})
        standing = f"{self.job}: pods {'; '.join([counts, *waits])}"
        if standing != self._standing:
            print(standing, flush=True)
        self._standing = standing


def pods_of(namespace: str) -> Reference:
    return Reference(api_version="v1", kind="Pod", namespace=namespace)


def is_disrupted(pod: Manifest) -> bool:
    return any(
        condition["type"] == "DisruptionTarget" and condition["status"] == "True"
        for condition in pod.get("status", {}).get("conditions", [])
    )


def _unscheduled(pod: Manifest) -> str:
    """Why no node takes the pod; empty where one does."""
    for condition in pod.get("status", {}).get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message", ""))
    return ""


def _about(event: Manifest) -> str:
    return str(event.get("involvedObject", {}).get("name", ""))


def _time(event: Manifest) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp", ""))


def _cells(event: Manifest) -> list[str]:
    """A row of Markdown: no cell breaks out of it."""
    about = f"{event.get('involvedObject', {}).get('kind', '')} {_about(event)}"
    cells = (_time(event), about, event.get("reason", ""), event.get("message", ""))
    return [" ".join(str(cell).split()).replace("|", "\\|") for cell in cells]
