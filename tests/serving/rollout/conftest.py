import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

from serving.rollout.cluster import Cluster, Retries
from serving.rollout.cluster_driver import ClusterDriver, Strategy
from serving.rollout.driver import Probe
from serving.rollout.errors import NoAnswer, SmokeFailed
from serving.rollout.httproute import HttpRoute
from serving.rollout.knative import Knative
from serving.rollout.lease import LeaseLedger
from serving.rollout.release import Release
from serving.rollout.rollout import Rollout
from serving.rollout.standard_canary import StandardCanary
from tests.serving.rollout.api_server import ApiServer, InProcess
from tests.serving.rollout.controllers import Controllers
from tests.serving.rollout.crds import CRDS, problems
from tests.serving.rollout.store import Store

SERVICE, NAMESPACE = "shop", "nextpage"
STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "httproute": lambda: HttpRoute(service=SERVICE, namespace=NAMESPACE, hostnames=("shop.example.com",)),
    "standard-canary": lambda: StandardCanary(service=SERVICE, namespace=NAMESPACE),
    "knative": lambda: Knative(service=SERVICE, namespace=NAMESPACE),
}
FAST = Retries(attempts=6, first_s=0.001, longest_s=0.01, timeout_s=2.0)
CRDS_HERE = CRDS.is_dir()


def a_release(name: str, **changed: Any) -> Release:
    return Release(
        **{"name": name, "storage_uri": f"oci://models.example.com/shop:{name}", "hash": f"hash-{name}", **changed}
    )


class Time:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class World:
    """A cluster with controllers, and processes that roll out in it."""

    strategy: str
    server: ApiServer
    controllers: Controllers
    broken: set[str] = field(default_factory=set)  # releases that answer badly
    in_process: bool = False
    time: Time = field(default_factory=Time)
    probed: list[str] = field(default_factory=list)
    _numbers: Any = field(default_factory=itertools.count)

    def smoke(self, probe: Probe) -> None:
        answers = self.controllers.release_at(probe.url)
        if answers != probe.release.name:
            raise NoAnswer(f"{probe.url} serves {answers!r}")
        self.probed.append(answers)
        if answers in self.broken:
            raise SmokeFailed(f"{answers} answers an empty slate")
        self.controllers.passed.add(answers)

    def cluster(self) -> Cluster:
        client = InProcess(self.server) if self.in_process else self.server.client()
        return Cluster(client, FAST, sleep=self.time.sleep)

    def process(self, cluster: Cluster | None = None, **changed: Any) -> Rollout:
        """A new process, with an identity of its own."""
        cluster = cluster or self.cluster()
        ledger = LeaseLedger(
            cluster=cluster,
            service=SERVICE,
            namespace=NAMESPACE,
            identity=f"process-{next(self._numbers)}",
            seconds=2,
            patience_s=30.0,
            clock=self.time.clock,
            sleep=self.time.sleep,
        )
        settings: dict[str, Any] = {"ready_s": 2.0, "poll_s": 1.0, "clock": self.time.clock, "sleep": self.time.sleep}
        return Rollout(
            driver=ClusterDriver(cluster, STRATEGIES[self.strategy]()),
            ledger=ledger,
            smoke=self.smoke,
            **(settings | changed),
        )


@cache
def _problems(manifest: str) -> tuple[str, ...]:
    return tuple(problems(json.loads(manifest)))


def validate(manifest: dict[str, Any]) -> list[str]:
    """Against the CRDs; the same few manifests come thousands of times."""
    metadata = {name: value for name, value in manifest["metadata"].items() if name != "resourceVersion"}
    return list(_problems(json.dumps({**manifest, "metadata": metadata}, sort_keys=True)))


def a_world(strategy: str) -> World:
    store = Store(validate=validate if CRDS_HERE else None)
    controllers = Controllers(store)
    return World(strategy=strategy, server=ApiServer(store), controllers=controllers)


@pytest.fixture(params=list(STRATEGIES))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """One for each strategy."""
    made = a_world(request.param)
    with made.server.running():
        yield made


@pytest.fixture
def routed() -> Iterator[World]:
    """With strategy `httproute` alone."""
    made = a_world("httproute")
    with made.server.running():
        yield made
