from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from components.placement import Placement
from components.trainjob.launch import Launcher
from components.trainjob.manifest import Launch
from serving.rollout.cluster import Cluster, Retries
from tests.components.trainjob.trainer import Trainer, TrainerStore
from tests.serving.rollout.api_server import ApiServer, Call, Fault, InProcess
from tests.serving.rollout.conftest import Time

QUICK = Retries(attempts=10, first_s=0.001, longest_s=0.01, timeout_s=0.1)
PLACEMENT = Placement(nodes=2, processes=8, accelerator="nvidia.com/gpu", node_pool="pool=gpu-train", queue="gpu")


class Ticking(InProcess):
    """No socket between; each call is a moment for the trainer."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__(trainer.server)
        self._trainer = trainer

    def call_api(self, path: str, method: str, **given: Any) -> Any:
        self._trainer.tick()
        return super().call_api(path, method, **given)


@dataclass
class World:
    """A cluster with a trainer, and launchers that come and go in it."""

    trainer: Trainer
    launch: Launch
    time: Time

    @property
    def server(self) -> ApiServer:
        return self.trainer.server

    def cluster(self) -> Cluster:
        return Cluster(Ticking(self.trainer), QUICK, sleep=self.time.sleep)

    def launcher(self, cluster: Cluster | None = None, **changed: Any) -> Launcher:
        """A new process. Waiting costs nothing here, and a look at a thing lets it move on."""
        settings: dict[str, Any] = {"poll_s": 0.05, "patience_s": 120.0, "clock": self.time.clock}
        sleep: Callable[[float], None] = self.time.sleep
        return Launcher(cluster=cluster or self.cluster(), launch=self.launch, sleep=sleep, **settings | changed)

    def served(self, faults: Callable[[Call], Fault | None] = lambda call: None) -> Cluster:
        """Through HTTP, with faults."""

        def moving(call: Call) -> Fault | None:
            self.trainer.tick()
            return faults(call)

        self.server.faults, self.server.hang_s = moving, 0.15
        return Cluster(self.server.client(), QUICK, sleep=self.time.sleep)

    def asking(self, **changed: Any) -> "World":
        """The same cluster, where another step asks for something else under the same name."""
        placement = replace(self.launch.placement, **changed)
        return replace(self, launch=replace(self.launch, placement=placement))


@pytest.fixture
def a_world(tmp_path: Path) -> Callable[..., World]:
    """A new cluster each time, in which TrainJobs have these fates."""

    def made(*fates: str) -> World:
        result = tmp_path / "work" / "weights.safetensors"
        result.unlink(missing_ok=True)
        trainer = Trainer(ApiServer(TrainerStore()), result, list(fates))
        launch = Launch(
            name="nextpage-training-f00d",
            namespace="shop",
            module="nextpage.training",
            arguments={"recipe": tmp_path / "work" / "inputs" / "recipe", "output": tmp_path / "work"},
            result=result,
            placement=PLACEMENT,
        )
        return World(trainer, launch, Time())

    return made
