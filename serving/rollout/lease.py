"""Who may move traffic, and where the rollout stands: both in one Lease.

The state is an annotation of the Lease and not of the objects that it describes: KServe copies an InferenceService's
annotations into its pods, so that each step of a ramp would restart them. And so writing the state is the same act as
showing that one still holds the Lease: an update of the very version that was read last.

State goes first: what is to be is written, then done. Whoever comes after a crash reads what was to be, and does that.
"""

import contextlib
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from serving.rollout.cluster import ApiError, Cluster, Conflict, Reference
from serving.rollout.errors import Busy, LeaseLost
from serving.rollout.manifests import Manifest
from serving.rollout.state import State, from_json, to_json

STATE = "nextpage/rollout"


@dataclass(frozen=True, kw_only=True)
class LeaseLedger:
    """The Lease `<service>-rollout`. `identity` must be this process's alone."""

    cluster: Cluster
    service: str
    namespace: str
    identity: str = field(default_factory=lambda: f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}")
    seconds: int = 60  # without a renewal, after which another may take it
    patience_s: float = 180.0  # how long to wait for another's
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    @property
    def reference(self) -> Reference:
        return Reference(
            api_version="coordination.k8s.io/v1",
            kind="Lease",
            namespace=self.namespace,
            name=f"{self.service}-rollout",
        )

    def read(self) -> State | None:
        return _state_in(self.cluster.get(self.reference))

    @contextlib.contextmanager
    def held(self) -> Iterator["HeldLease"]:
        held = HeldLease(self.cluster, self._acquired(), self.identity)
        try:
            yield held
        finally:
            with contextlib.suppress(ApiError, LeaseLost):  # it runs out by itself
                held.release()

    def _acquired(self) -> Manifest:
        """The Lease, ours. One that does not change for its duration has no living holder: no clocks are compared."""
        ends = self.clock() + self.patience_s
        seen, since = "", self.clock()
        while True:
            live = self.cluster.get(self.reference)
            holder = live["spec"].get("holderIdentity", "") if live else ""
            if live is not None and live["metadata"]["resourceVersion"] != seen:
                seen, since = live["metadata"]["resourceVersion"], self.clock()
            lasts = live["spec"].get("leaseDurationSeconds", self.seconds) if live else 0
            if holder in ("", self.identity) or self.clock() - since >= lasts:
                with contextlib.suppress(Conflict):  # another was first, or our own answer was lost: look again
                    return self._take(live)
            elif self.clock() >= ends:
                raise Busy(
                    f"{self.reference} is held by {holder!r}, which renews it: let that end, or wait longer than "
                    f"{self.patience_s:g} s"
                )
            else:
                self.sleep(min(2.0, lasts / 10))

    def _take(self, live: Manifest | None) -> Manifest:
        now = _now()
        spec = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self.seconds,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": live["spec"].get("leaseTransitions", 0) + 1 if live else 0,
        }
        if live is not None:
            return self.cluster.replace({**live, "spec": spec})
        reference = self.reference
        metadata = {"name": reference.name, "namespace": reference.namespace}
        lease = {"apiVersion": reference.api_version, "kind": reference.kind, "metadata": metadata, "spec": spec}
        return self.cluster.create(lease)


class HeldLease:
    """The Lease as this process wrote it last."""

    def __init__(self, cluster: Cluster, live: Manifest, identity: str) -> None:
        self._cluster = cluster
        self._live = live
        self._identity = identity
        self.state = _state_in(live)

    def write(self, state: State) -> None:
        annotations = {**self._live["metadata"].get("annotations", {}), STATE: to_json(state)}
        self._put({**self._live, "metadata": {**self._live["metadata"], "annotations": annotations}})
        self.state = state

    def renew(self) -> None:
        self._put(self._live)

    def release(self) -> None:
        self._put(self._live, holder="")

    def _put(self, lease: Manifest, holder: str | None = None) -> None:
        """Replace the Lease. A 409 may be the echo of our own write, or come from one who only touched the object."""
        spec = {**lease["spec"], "renewTime": _now(), "holderIdentity": self._identity if holder is None else holder}
        wanted = {**lease, "spec": spec}
        for _ in range(5):
            try:
                self._live = self._cluster.replace(wanted)
                return
            except Conflict:
                live = self._cluster.get(Reference.of(lease))
                if live is not None and live["spec"] == spec and _state_in(live) == _state_in(wanted):
                    self._live = live
                    return
                if (
                    live is None
                    or live["spec"].get("holderIdentity") != self._identity
                    or _state_in(live) != self.state
                ):
                    break
                wanted = {
                    **wanted,
                    "metadata": {**wanted["metadata"], "resourceVersion": live["metadata"]["resourceVersion"]},
                }
        raise LeaseLost(
            f"{Reference.of(lease)} was taken over while {self._identity!r} held it: nothing more is written"
        )


def _state_in(live: Manifest | None) -> State | None:
    text = (live or {}).get("metadata", {}).get("annotations", {}).get(STATE)
    if not text:
        return None
    try:
        return from_json(text)
    except (TypeError, KeyError, ValueError) as failure:
        raise ValueError(
            f"annotation {STATE} of the Lease cannot be read ({failure}): did another version of Nextpage write it?"
        ) from failure


def _now() -> str:
    """A MicroTime."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
