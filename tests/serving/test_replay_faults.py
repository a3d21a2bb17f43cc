"""A server or Envoy is killed under the load: what callers see, and what the log still knows."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from nextpage.experiments.replay import Page, UserConfig
from serving.attribution import attribute
from serving.replay import ReplayConfig, Replayed, Visit, replay
from serving.rollout.file_ledger import FileLedger
from serving.rollout.local import Local
from serving.rollout.processes import Processes, free_port
from serving.rollout.release import Release
from serving.rollout.rollout import Rollout
from serving.rollout.smoke import Prediction
from tests.pipelines import shop

ITEMS = [f"i{row:04d}" for row in range(20)]


class Stage:
    """One release behind Envoy, and visits numbered on."""

    def __init__(self, folder: Path) -> None:
        manifest = shop.write_release(folder / "tiny", pa.table({"item_id": ITEMS}))
        self.folder, self.events, self.port, self._next = folder, folder / "events", free_port(), 0
        words = [*shop.COMMAND.split(), "--events", str(self.events), "--events_flush_s", "0.1"]

        def command(release: Release, port: int) -> list[str]:
            known = {"python": sys.executable, "folder": folder / "tiny", "port": port}
            return [word.format(**known) for word in words]

        self.rollout = Rollout(
            driver=Local(folder=folder, port=self.port, command=command),
            ledger=FileLedger(folder=folder),
            smoke=Prediction(model_name="nextpage", request={"history": {"items": ITEMS[:5]}}),
            ready_s=120.0,
            poll_s=0.05,
            linger_s=0.0,
        )
        uri = (folder / "tiny").as_uri()
        self.rollout.start(Release(name="tiny", storage_uri=uri, hash=manifest.hash))

    def replayed(self, count: int, killed: str = "", after: int = 0) -> Replayed:
        """`count` more visits; once `after` of them were sent, the process `killed` is."""
        return asyncio.run(
            replay(
                self._visits(count, killed, after),
                f"http://127.0.0.1:{self.port}",
                lambda user: None,
                UserConfig(),
                ReplayConfig(in_flight=4),
            )
        )

    def kill(self, name: str) -> None:
        process = Processes(self.folder / "processes").find(name)
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)

    def logged(self) -> set[str]:
        if not self.events.is_dir():
            return set()
        shown = attribute(self.events, window=timedelta(minutes=1)).exposures
        return set(shown["request_id"].to_pylist()) - {"smoke"}

    def _visits(self, count: int, killed: str, after: int) -> Iterator[Visit]:
        for place in range(count):
            if killed and place == after:
                self.kill(killed)
            page = Page(
                user_id="u",
                request_id=str(self._next),
                as_of=100,
                items=ITEMS[:8],
                behaviours=["ordered"] * 8,
                pages=list(range(8)),
                times=list(range(8)),
                wanted={"i0003": 1.0},
            )
            yield Visit(request_id=f"r{self._next}", page=page)
            self._next += 1


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    try:
        yield made
    finally:
        made.rollout.driver.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("killed", "seen"), [("tiny", "HTTP 503"), ("envoy", "ConnectError")])
def test_callers_are_told_at_once_and_what_the_log_had_written_stays(stage: Stage, killed: str, seen: str) -> None:
    assert stage.replayed(30).answered == {"tiny": 30}
    written = {f"r{number}" for number in range(30)}
    eventually_written(stage, written)

    broken = stage.replayed(30, killed, after=15)
    assert broken.answered.total() + broken.failed.total() == broken.sent == 30
    assert broken.failed[seen] >= 10
    assert broken.answered.total() >= 10

    stage.rollout.resume()
    assert stage.replayed(30).answered == {"tiny": 30}
    stage.rollout.driver.close()  # type: ignore[attr-defined]
    logged = stage.logged()
    assert logged >= written | {f"r{number}" for number in range(60, 90)}
    if killed == "envoy":  # the server lives on: whatever anybody was answered, it has written
        assert len(logged) >= 60 + broken.answered.total()


def eventually_written(stage: Stage, expected: set[str]) -> None:
    for _ in range(300):
        if stage.logged() >= expected:
            return
        time.sleep(0.1)
    raise AssertionError(f"{len(expected - stage.logged())} slates were never written")
