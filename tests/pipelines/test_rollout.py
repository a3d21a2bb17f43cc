"""The recurring pipeline on this machine: real processes behind a real Envoy, stand-ins for the model."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from kfp import dsl, local

from components.configure.component import configure
from components.deploy.component import deploy
from components.deploy.config import read_rollout
from components.deploy.storage import label
from components.deploy.traffic import open_rollout
from pipelines.rollout import rollout
from serving.rollout.processes import free_port
from tests.components.rollouts import a_rule, a_sealed_release, write_evidence
from tests.serving.rollout import stub_server


@dsl.pipeline(name="deploying")
def deploying(release: str, rollout: str) -> None:
    source = dsl.importer(artifact_uri=release, artifact_class=dsl.Model, reimport=False).output
    configured = configure(recipe="genrec", rollout=rollout)
    with dsl.If(configured.outputs["Output"] == True):  # noqa: E712
        deploy(release=source, rollout=rollout)


class Machine:
    """Runs of pipelines, each as its own processes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runs = folder, 0
        command = ["{python}", stub_server.__file__, "{port}", "{name}", "{hash}"]
        settings: dict[str, Any] = {
            "strategy": "local",
            "folder": str(folder / "machine"),
            "port": free_port(),
            "command": command,
            "storage": f"file://{folder}/models/{{name}}",
            "records": str(folder / "records"),
            "events": str(folder / "evidence.parquet"),
            "ramp": [50, 100],
            "canary": {"requests": 200},
            "linger_s": 0.0,
            "ready_s": 60.0,
        }
        self.text = "\n".join(f"{name}: {json.dumps(value)}" for name, value in settings.items())
        self.rollout = open_rollout(read_rollout(self.text))

    def run(self, pipeline: Any, **arguments: Any) -> Path:
        """The folder of its tasks. What ended with them, Envoy, is started again, as the next process would."""
        self.runs += 1
        root = self.folder / f"run-{self.runs}"
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(root), raise_on_error=True)
        pipeline(rollout=self.text, **arguments)
        self.rollout.resume()
        (tasks,) = root.iterdir()
        return tasks

    def served(self, arm: str) -> str:
        url = f"http://127.0.0.1:{read_rollout(self.text).port}/v1/models/nextpage:predict"
        answer = httpx.post(url, json={"instances": [{}]}, headers={"x-nextpage-arm": arm}, timeout=10.0)
        return str(answer.json()["predictions"][0]["release"]["name"])


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    try:
        yield made
    finally:
        made.rollout.driver.close()


def test_a_release_is_deployed_judged_and_promoted_by_runs_of_pipelines(machine: Machine) -> None:
    names = {}
    for name in ("r1", "r2"):
        names[name] = label(a_sealed_release(machine.folder / name, name, a_rule(promotion="approval")))
        machine.run(deploying, release=str(machine.folder / name))
    assert {arm: machine.served(arm) for arm in ("treatment", "control", "outside")} == {
        "treatment": names["r2"],
        "control": names["r1"],
        "outside": names["r1"],
    }
    write_evidence(machine.folder / "evidence.parquet", "PROMOTE")
    waited = machine.run(rollout)
    assert (waited / "gate/card").read_text().startswith("# HOLD")
    assert (waited / "canary/card").read_text().startswith("# PROMOTE: operational canary at 50%")
    assert (waited / "act/card").read_text().startswith("# Nothing")
    assert machine.rollout.state().percent == 50

    approved = machine.run(rollout, approved_by="Ada")
    assert json.loads((approved / "gate/record").read_text())["approved_by"] == "Ada"
    assert (approved / "act/card").read_text().startswith("# Promoted")
    assert machine.rollout.state().shares == {names["r2"]: 100}
    assert {machine.served(arm) for arm in ("treatment", "control", "outside")} == {names["r2"]}

    idle = machine.run(rollout)
    assert (idle / "gate/record").read_text() == "null"
    assert machine.rollout.state().shares == {names["r2"]: 100}
