"""A TrainJob that is launched once, followed to its end, and found again by a launcher that comes after a dead one.

Tries are numbered, and a try is made only when the one before it has ended and none of its pods is left: so that no two
write one folder. A number can be created once: of two launchers, one is told that it exists, and follows it too.
Nothing is ever deleted, so that what failed can be looked at.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from components.trainjob.manifest import KIND, LAUNCH, TRY, Launch, differences
from components.trainjob.witness import ENDED, Witness, pods_of
from serving.rollout.cluster import Cluster, Conflict, Reference
from serving.rollout.manifests import Manifest

CONFLICTS = 5


class TrainJobFailed(RuntimeError):
    """It did not end well; `account` is what became of it, as Markdown."""

    def __init__(self, said: str, account: str = "") -> None:
        super().__init__(said)
        self.account = account


class TrainJobRefused(RuntimeError):
    """A TrainJob of that name is there and is not the one that was asked for. Nothing was changed."""


@dataclass(frozen=True, kw_only=True)
class Launcher:
    cluster: Cluster
    launch: Launch
    restarts: int = 5  # after preemptions
    poll_s: float = 10.0  # between looks at logs
    patience_s: float = 600.0  # for pods to end, and for the result to be seen on a shared file system
    clock: Callable[[], float] = field(default=time.monotonic)
    sleep: Callable[[float], None] = field(default=time.sleep)

    def run(self) -> None:
        """Return once a try is complete and its result is there.

        Raises TrainJobFailed for a try that failed by itself, was deleted, or was preempted too often; TrainJobRefused
        where the name is taken.
        """
        restarts = 0
        while True:
            job = Reference.of(self._adopted_or_created())
            witness = Witness(self.cluster, job)
            failure = self._follow(job, witness)
            if failure is None:
                otherwise = "do its nodes mount the claim that this step mounts, at the same path?"
                self._wait(
                    self.launch.result.exists, f"{job} is complete, and {self.launch.result} is not there: {otherwise}"
                )
                return
            again = witness.preempted and failure["reason"] != "DeadlineExceeded"
            if not again or restarts == self.restarts:
                raise self._failed(job, failure, witness, f" after {restarts} restarts" if again else "")
            restarts += 1
            print(f"{job} was preempted: restart {restarts} of at most {self.restarts}", flush=True)

    def _adopted_or_created(self) -> Manifest:
        """The try that runs or is done, or else the next one."""
        tries = sorted(self.cluster.list(self.launch.tries, {LAUNCH: self.launch.name}), key=_number)
        last = tries[-1] if tries else None
        if last is not None and _condition(last, "Complete") and self.launch.result.exists():
            return last
        if last is not None and not _condition(last, "Complete") and not _condition(last, "Failed"):
            return self._ours(last)
        # Failed, or its result was taken by a step that died before it could hand it on.
        self._wait(self._pods_ended, f"pods of {self.launch.name} have not ended: a new try would write beside them")
        wanted = self.launch.manifest(_number(last) + 1 if last else 1)
        job = Reference.of(wanted)
        for _ in range(CONFLICTS):
            try:
                return self.cluster.create(wanted)
            except Conflict:  # our own answer was lost, another launcher was first, or a quota changed meanwhile
                if live := self.cluster.get(job):
                    return self._ours(live)
                self.sleep(1.0)
        raise TrainJobFailed(f"{job} could not be created: {CONFLICTS} conflicts, and it is not there. Run again")

    def _ours(self, live: Manifest) -> Manifest:
        wanted = self.launch.manifest(_number(live))
        other = list(differences({"labels": wanted["metadata"]["labels"]}, {"labels": live["metadata"].get("labels")}))
        other += differences(wanted["spec"], live["spec"], "spec")
        if other:
            raise TrainJobRefused(
                f"{Reference.of(live)} is there and is not what this step asks for: it differs in {', '.join(other)}. "
                f"If it is of an earlier run, wait for its end, or kubectl delete {KIND.lower()} -n "
                f"{self.launch.namespace} {live['metadata']['name']}"
            )
        return live

    def _follow(self, job: Reference, witness: Witness) -> Manifest | None:
        """Wait for the end. The condition of its failure, None where it is complete."""
        while True:
            live = self.cluster.get(job)
            if live is None:
                raise self._failed(job, {"reason": "Deleted", "message": "by another while it ran"}, witness)
            witness.look()
            if _condition(live, "Complete"):
                return None
            if failure := _condition(live, "Failed"):
                return failure
            self.cluster.wait_for_change(job, live["metadata"]["resourceVersion"], self.poll_s)

    def _failed(self, job: Reference, failure: Manifest, witness: Witness, when: str = "") -> TrainJobFailed:
        said = f"{job} failed{when}, {failure['reason']}: {failure['message']}"
        return TrainJobFailed(said, witness.account(said))

    def _pods_ended(self) -> bool:
        pods = self.cluster.list(pods_of(self.launch.namespace), {LAUNCH: self.launch.name})
        return all(pod.get("status", {}).get("phase") in ENDED for pod in pods)

    def _wait(self, true: Callable[[], bool], otherwise: str) -> None:
        ends = self.clock() + self.patience_s
        while not true():
            if self.clock() >= ends:
                raise TrainJobFailed(f"{otherwise} (waited {self.patience_s:g} s)")
            self.sleep(min(2.0, self.poll_s))


def _number(live: Manifest | None) -> int:
    return int((live or {}).get("metadata", {}).get("labels", {}).get(TRY, 0))


def _condition(live: Manifest, kind: str) -> Manifest | None:
    for condition in live.get("status", {}).get("conditions", []):
        if condition["type"] == kind and condition["status"] == "True":
            found: Manifest = condition
            return found
    return None
