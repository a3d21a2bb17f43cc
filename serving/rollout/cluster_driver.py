"""Strategies carried out in a cluster.

A strategy is the pure part: which objects a state means, and what their status must say. `ClusterDriver` makes the
calls.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from serving.rollout.cluster import Cluster, Conflict, Reference
from serving.rollout.driver import Fence, Probe
from serving.rollout.errors import NotReached
from serving.rollout.manifests import SERVICE_LABEL, Manifest
from serving.rollout.release import Release
from serving.rollout.state import State

Read = Callable[[Reference], Manifest | None]
TRIES = 12  # of one write that others' writes come between


@dataclass(frozen=True, kw_only=True)
class Missing:
    """What the world lacks: a sentence, and the object that will show it."""

    sentence: str
    seen_in: Reference


class Strategy(Protocol):
    """How one way of splitting traffic says a state."""

    name: str
    service: str
    namespace: str
    kinds: tuple[tuple[str, str], ...]  # (apiVersion, kind) of what it makes

    def check(self, release: Release) -> None: ...

    def manifests(self, state: State) -> list[Manifest]:
        """The objects to apply, in order: what traffic goes to, before what moves it."""

    def missing(self, state: State, read: Read) -> Missing | None: ...

    def probe(self, state: State, read: Read) -> Probe | None: ...

    def keeps(self, live: Manifest, state: State) -> bool:
        """Whether a settled state needs the object."""


class ClusterDriver:
    """A strategy carried out by server-side apply.

    Before each write the fence is asked, and the write holds only for the version of the object read before that. So a
    process that slept past its lease writes nothing once another has moved on. With `take_over`, fields that another
    manager owns (a chart that made the route, say) are taken from it.
    """

    def __init__(self, cluster: Cluster, strategy: Strategy, *, take_over: bool = False) -> None:
        self.name = strategy.name
        self._cluster = cluster
        self._strategy = strategy
        self._take_over = take_over

    def check(self, release: Release) -> None:
        self._strategy.check(release)

    def apply(self, state: State, fence: Fence) -> None:
        for manifest in self._strategy.manifests(state):
            self._fenced(Reference.of(manifest), fence, partial(self._apply, manifest))

    def waiting_for(self, state: State, seconds: float) -> str | None:
        seen: dict[Reference, Manifest | None] = {}

        def read(reference: Reference) -> Manifest | None:
            if reference not in seen:
                seen[reference] = self._cluster.get(reference)
            return seen[reference]

        missing = self._strategy.missing(state, read)
        if missing is None:
            return None
        live = seen.get(missing.seen_in)
        self._cluster.wait_for_change(missing.seen_in, live["metadata"]["resourceVersion"] if live else "", seconds)
        return missing.sentence

    def probe(self, state: State) -> Probe | None:
        return self._strategy.probe(state, self._cluster.get)

    def clean(self, state: State, fence: Fence) -> None:
        strategy = self._strategy
        for api_version, kind in strategy.kinds:
            anything = Reference(api_version=api_version, kind=kind, namespace=strategy.namespace)
            for found in self._cluster.list(anything, {SERVICE_LABEL: strategy.service}):
                if not strategy.keeps(found, state):
                    self._fenced(Reference.of(found), fence, self._delete)

    def _apply(self, manifest: Manifest, live: Manifest | None) -> None:
        metadata = dict(manifest["metadata"])
        if live is not None:
            if "deletionTimestamp" in live["metadata"]:
                raise NotReached(f"{Reference.of(live)} is still being removed: run again when it is gone")
            metadata["resourceVersion"] = live["metadata"]["resourceVersion"]
        self._cluster.apply({**manifest, "metadata": metadata}, force=self._take_over)

    def _delete(self, live: Manifest | None) -> None:
        if live is not None:
            self._cluster.delete(live)

    def _fenced(self, reference: Reference, fence: Fence, write: Callable[[Manifest | None], None]) -> None:
        for _ in range(TRIES):
            live = self._cluster.get(reference)
            fence()
            try:
                write(live)
                return
            except Conflict:  # a controller writes the status of the same object: read it again
                continue
        raise NotReached(f"{reference} changed under {TRIES} writes in a row: run again")
