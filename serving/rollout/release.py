"""What is rolled out: a release, where its bytes lie, and the pods that serve it.

All of it is written into the rollout's state, so that a manifest depends on nothing but that state: not on the
settings of the process that happens to resume.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serving.rollout.errors import RolloutRefused

LONGEST_NAME = 63  # of a Service, and so of all names that one is made of
LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
MOVING_TAGS = ("latest", "main", "master", "stable", "prod")


@dataclass(frozen=True, kw_only=True)
class Pods:
    """How many pods, and what each may use."""

    replicas: int = 2
    cpu: str = "2"
    memory: str = "4Gi"
    gpus: int = 0
    service_account: str = ""

    def __post_init__(self) -> None:
        if self.replicas < 1:
            raise RolloutRefused(f"replicas is {self.replicas}: a release that takes traffic needs at least 1")
        if self.gpus < 0:
            raise RolloutRefused(f"gpus is {self.gpus}: give 0 or more")


@dataclass(frozen=True, kw_only=True)
class Autoscaling:
    """Scales on requests in flight, read from Prometheus by KEDA; GPU utilisation says little about waiting users."""

    prometheus: str  # address, http://…:9090
    most_replicas: int
    in_flight: int = 16  # requests in flight that one pod should have


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """The pods that read a user's history from Feast and call the predictor. `python -m serving` is its entry point."""

    image: str  # by digest
    feature_server: str
    feature_service: str
    feature_service_hash: str
    args: tuple[str, ...] = ()
    pods: Pods = field(default_factory=lambda: Pods(cpu="1", memory="1Gi"))


@dataclass(frozen=True, kw_only=True)
class Release:
    """One release of the model. Its name stands for one storage URI for ever."""

    name: str
    storage_uri: str
    hash: str  # of its manifest; the smoke test asks the server for it
    runtime: str = "nextpage"  # the (Cluster)ServingRuntime
    pods: Pods = field(default_factory=Pods)
    autoscaling: Autoscaling | None = None
    transformer: Transformer | None = None

    def __post_init__(self) -> None:
        if not LABEL.fullmatch(self.name):
            raise RolloutRefused(
                f"release name {self.name!r} is no DNS label: use lower-case letters, digits and '-', a letter first"
            )
        tag = self.storage_uri.rpartition("/")[2].rpartition(":")[2]
        if tag in MOVING_TAGS or not ({self.name, self.hash} & set(re.split(r"[/:@]", self.storage_uri))):
            raise RolloutRefused(
                f"storage URI {self.storage_uri!r} does not hold release {self.name!r} alone: "
                "its path or tag must be the release's name or hash, so that nobody overwrites it"
            )


def release_from_json(raw: Mapping[str, Any]) -> Release:
    """The release that `dataclasses.asdict` wrote."""
    scaling, transformer = raw["autoscaling"], raw["transformer"]
    return Release(
        **{
            **raw,
            "pods": Pods(**raw["pods"]),
            "autoscaling": Autoscaling(**scaling) if scaling else None,
            "transformer": Transformer(
                **{**transformer, "args": tuple(transformer["args"]), "pods": Pods(**transformer["pods"])}
            )
            if transformer
            else None,
        }
    )
