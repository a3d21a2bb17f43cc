"""Releases are rolled out by pipelines on this machine: real processes behind a real Envoy, stand-ins for the model."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kfp import dsl, local

from components.configure.component import configure
from components.deploy.config import RolloutConfig, read_rollout
from components.deploy.step import start
from components.deploy.storage import label
from components.deploy.traffic import open_rollout
from nextpage.experiments.replay import Page, UserConfig
from nextpage.interactions.log import INTERACTION_SCHEMA
from nextpage.interactions.log import Dataset as Log
from nextpage.release import read_manifest
from pipelines import planted
from pipelines.first_users import first_users
from pipelines.rollout import rollout
from serving.replay import ReplayConfig, Visit, replay
from serving.rollout.processes import free_port
from serving.rollout.rollout import Rollout
from serving.rollout.state import Phase
from tests.components.rollouts import a_rule, a_sealed_release, write_evidence
from tests.pipelines import shop
from tests.serving.rollout import stub_server

ITEMS = [f"i{row:04d}" for row in range(24)]


@dsl.pipeline(name="releasing")
def releasing(release: str, clean: str, rollout: str) -> None:
    """What the main pipeline does once a release is sealed."""
    sealed = dsl.importer(artifact_uri=release, artifact_class=dsl.Model, reimport=False).output
    log = dsl.importer(artifact_uri=clean, artifact_class=dsl.Dataset, reimport=False).output
    configured = configure(recipe="genrec", rollout=rollout)
    with dsl.If(configured.outputs["Output"] == True):  # noqa: E712
        first_users(release=sealed, clean=log, rollout=rollout)


class Machine:
    """Runs of pipelines, each as its own processes."""

    def __init__(self, folder: Path, command: Sequence[str], **changed: Any) -> None:
        self.folder, self.runs = folder, 0
        settings: dict[str, Any] = {
            "strategy": "local",
            "folder": str(folder / "machine"),
            "port": free_port(),
            "command": list(command),
            "storage": f"file://{folder}/models/{{name}}",
            "records": str(folder / "records"),
            "events": str(folder / "evidence.parquet"),
            "ramp": [50, 100],
            "canary": {"requests": 200},
            "linger_s": 0.0,
            "ready_s": 60.0,
            **changed,
        }
        self.text = "\n".join(f"{name}: {json.dumps(value)}" for name, value in settings.items())
        self.config: RolloutConfig = read_rollout(self.text)
        self.rollout: Rollout = open_rollout(self.config)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.config.port}"

    def start(self, release: Path) -> str:
        start(self.config, release)
        return label(read_manifest(release))

    def run(self, pipeline: Callable[..., Any], **arguments: Any) -> Path:
        """The folder of its tasks."""
        self.runs += 1
        root = self.folder / f"run-{self.runs}"
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(root), raise_on_error=True)
        pipeline(rollout=self.text, **arguments)
        return self.tasks

    @property
    def tasks(self) -> Path:
        (tasks,) = (self.folder / f"run-{self.runs}").iterdir()
        return tasks

    def served(self, arm: str) -> str:
        path = f"{self.url}/v1/models/nextpage:predict"
        answer = httpx.post(path, json={"instances": [{}]}, headers={"x-nextpage-arm": arm}, timeout=10.0)
        return str(answer.json()["predictions"][0]["release"]["name"])


@pytest.fixture
def machines() -> Iterator[list[Machine]]:
    made: list[Machine] = []
    yield made
    for machine in made:
        machine.rollout.driver.close()  # type: ignore[attr-defined]


def test_the_recurring_pipeline_promotes_a_release_that_somebody_approves(
    tmp_path: Path, machines: list[Machine]
) -> None:
    machine = Machine(tmp_path, ["{python}", stub_server.__file__, "{port}", "{name}", "{hash}"])
    machines.append(machine)
    names = {}
    for name in ("r1", "r2"):
        a_sealed_release(tmp_path / name, name, a_rule(promotion="approval"))
        names[name] = machine.start(tmp_path / name)
    arms = {"treatment": names["r2"], "control": names["r1"], "outside": names["r1"]}
    assert {arm: machine.served(arm) for arm in arms} == arms
    write_evidence(tmp_path / "evidence.parquet", "PROMOTE")
    tasks = machine.run(rollout, approved_by="Ada")
    assert json.loads((tasks / "gate/record").read_text())["approved_by"] == "Ada"
    assert (tasks / "canary/card").read_text().startswith("# PROMOTE: operational canary at 50%")
    assert (tasks / "act/card").read_text().startswith("# Promoted")
    assert machine.rollout.state().shares == {names["r2"]: 100}
    assert {machine.served(arm) for arm in arms} == {names["r2"]}


def without_every_third_item(release: Path) -> None:
    """They keep their codes, so the model goes on naming them."""
    items = pq.read_table(release / "items.parquet")
    kept = [row for row in range(len(items)) if row % 3]
    pq.write_table(items.take(pa.array(kept)), release / "items.parquet")


def test_a_release_with_invalid_items_is_taken_back_by_its_canary_and_fails_the_run(
    tmp_path: Path, machines: list[Machine]
) -> None:
    """By the main pipeline's own last part, with users from its deployment on."""
    events = tmp_path / "events"
    command = [*shop.COMMAND.split(), "--events", str(events), "--events_flush_s", "0.1"]
    machine = Machine(tmp_path, command, events=str(events), poll_s=0.2, attribution_window_s=0.0, slow_ms=60_000.0)
    machines.append(machine)
    shop.write_release(tmp_path / "good", pa.table({"item_id": ITEMS}))
    pq.write_table(INTERACTION_SCHEMA.empty_table(), Log(folder=tmp_path).interactions)
    good = machine.start(tmp_path / "good")
    bad = planted.variant(tmp_path / "good", tmp_path, name="bad", change=without_every_third_item)
    stop = Event()
    users = Thread(target=asyncio.run, args=(visits(machine.url, stop),))
    users.start()
    try:
        with pytest.raises(RuntimeError):
            machine.run(releasing, release=str(bad), clean=str(tmp_path))
    finally:
        stop.set()
        users.join()
    tasks, state = machine.tasks, machine.rollout.state()
    assert "no request of a known user" in (tasks / "pregate/card").read_text()
    assert (tasks / "canary/card").read_text().startswith("# ROLLBACK: operational canary at 50%")
    assert "invalid items: " in (tasks / "canary/card").read_text()
    assert (tasks / "act/card").read_text().startswith("# Rolled back")
    assert (state.phase, state.shares) == (Phase.SETTLED, {good: 100})
    assert "invalid items" in state.past[-1].reason


async def visits(url: str, stop: Event) -> None:
    """Of somebody without an arm, so by the weights."""
    page = Page(
        user_id="u",
        request_id="q",
        as_of=100,
        items=ITEMS[:9],
        behaviours=["ordered"] * 9,
        pages=list(range(9)),
        times=list(range(9)),
        wanted={},
    )
    endless = (Visit(request_id=f"q{number}", page=page, due_s=number / 20) for number in range(100_000))
    await replay(endless, url, lambda user: None, UserConfig(), ReplayConfig(in_flight=4), stop=stop)
