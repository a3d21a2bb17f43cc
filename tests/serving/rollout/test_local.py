"""The same state machine over real processes behind a real Envoy."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.rollout import envoy_config
from serving.rollout.errors import Busy, ReleaseRejected, RolloutRefused
from serving.rollout.file_ledger import FileLedger, HeldFile
from serving.rollout.local import Local
from serving.rollout.processes import Processes, free_port
from serving.rollout.release import Release
from serving.rollout.rollout import Rollout
from serving.rollout.smoke import Prediction
from serving.rollout.state import State
from tests.serving.rollout import stub_server
from tests.serving.rollout.conftest import a_release
from tests.serving.rollout.test_crash import Died

PATH = "/v1/models/shop:predict"


def a_local_release(name: str) -> Release:
    return a_release(name, storage_uri=f"file:///models/{name}")


def command(release: Release, port: int) -> Sequence[str]:
    return [sys.executable, stub_server.__file__, str(port), release.name]


class Machine:
    """A folder, a port, and processes that roll out there, one after another."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.driver = self._driver()

    def _driver(self) -> Local:
        return Local(folder=self.folder, port=self.port, command=command)

    def process(self) -> Rollout:
        self.driver = self._driver()
        return Rollout(
            driver=self.driver,
            ledger=FileLedger(folder=self.folder, patience_s=0.0),
            smoke=Prediction(model_name="shop", request={"history": {"items": ["tea"]}}),
            ready_s=30.0,
            poll_s=0.05,
            linger_s=0.0,
        )

    def pid(self, name: str) -> int:
        found = Processes(self.folder / "processes").find(name)
        assert found is not None
        return found.pid

    def ask(self, client: httpx.Client, arm: str = "") -> str:
        """The release that answers; the status where none does."""
        headers = {"x-nextpage-arm": arm} if arm else {}
        answer = client.post(f"http://127.0.0.1:{self.port}{PATH}", json={"instances": [{}]}, headers=headers)
        return (
            answer.json()["predictions"][0]["release"]["name"] if answer.status_code == 200 else str(answer.status_code)
        )

    def ask_once(self, arm: str) -> str:
        ((release, _),) = self.asked(1, arm).items()
        return release

    def asked(self, times: int, arm: str = "") -> Counter[str]:
        with httpx.Client(timeout=10.0, verify=False) as client:
            return Counter(self.ask(client, arm) for _ in range(times))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    try:
        yield made
    finally:
        made.driver.close()


def test_headers_pin_the_arms_and_weights_are_for_the_others(machine: Machine) -> None:
    rollout = machine.process()
    assert rollout.start(a_local_release("r1")).shares == {"r1": 100}
    rollout.start(a_local_release("r2"))
    assert machine.asked(20) == machine.asked(20, "treatment") == machine.asked(20, "control") == {"r1": 20}

    rollout.ramp("r2", 30)
    assert machine.asked(40, "treatment") == {"r2": 40}
    assert machine.asked(40, "control") == machine.asked(40, "outside") == {"r1": 40}
    drawn = machine.asked(300)
    assert set(drawn) == {"r1", "r2"}
    assert abs(drawn["r2"] - 90) < 40  # five standard deviations

    rollout.promote("r2")
    assert machine.asked(20) == machine.asked(20, "control") == machine.asked(20, "treatment") == {"r2": 20}
    assert Processes(machine.folder / "processes").names() == ["envoy", "r2"]


def test_no_request_is_lost_while_traffic_moves(machine: Machine) -> None:
    rollout = machine.process()
    rollout.start(a_local_release("r1"))
    seen: Counter[str] = Counter()
    stop = threading.Event()

    def keep_asking(arm: str) -> None:
        with httpx.Client(timeout=10.0) as client:
            while not stop.is_set():
                seen[machine.ask(client, arm)] += 1
                stop.wait(0.005)

    threads = [threading.Thread(target=keep_asking, args=(arm,)) for arm in ("", "treatment")]
    for thread in threads:
        thread.start()
    rollout.start(a_local_release("r2"))
    for percent in (10, 50, 100):
        rollout.ramp("r2", percent)
    rollout.promote("r2")
    rollout.start(a_local_release("r3"))
    rollout.ramp("r3", 50)
    rollout.roll_back("r3", "worse")
    stop.set()
    for thread in threads:
        thread.join()
    assert set(seen) == {"r1", "r2", "r3"}


@pytest.mark.parametrize(("name", "said"), [("r2-empty", "an empty slate"), ("r2-dies", "r2-dies has no weights")])
def test_a_release_that_fails_gets_nothing_and_its_server_goes(machine: Machine, name: str, said: str) -> None:
    rollout = machine.process()
    rollout.start(a_local_release("r1"))
    with pytest.raises(ReleaseRejected, match=said):
        rollout.start(a_local_release(name))
    assert machine.asked(20, "treatment") == {"r1": 20}
    assert Processes(machine.folder / "processes").names() == ["envoy", "r1"]


def test_the_next_process_finds_what_runs_and_starts_what_died(machine: Machine) -> None:
    rollout = machine.process()
    rollout.start(a_local_release("r1"))
    rollout.start(a_local_release("r2"))
    rollout.ramp("r2", 50)
    before = {name: machine.pid(name) for name in ("envoy", "r1", "r2")}
    assert machine.process().resume().percent == 50
    assert {name: machine.pid(name) for name in before} == before

    os.kill(before["r2"], signal.SIGKILL)
    eventually(lambda: machine.asked(1, "treatment") == {"503": 1})  # one arm is down: its callers are told so
    assert machine.asked(10, "control") == {"r1": 10}
    machine.process().resume()
    assert machine.asked(10, "treatment") == {"r2": 10}

    os.kill(before["envoy"], signal.SIGKILL)
    with pytest.raises(httpx.NetworkError):  # reset where it was just being ended, refused from then on
        machine.asked(1)
    machine.process().resume()
    assert machine.asked(10, "treatment") == {"r2": 10}
    assert machine.pid("r1") == before["r1"]


def dies_after(steps: int, patch: pytest.MonkeyPatch) -> None:
    """Of all that a rollout here does to files and processes."""
    left = iter(range(steps))

    def mortal(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*told: Any, **named: Any) -> Any:
            if next(left, None) is None:
                raise Died
            return real(*told, **named)

        return step

    for owner, name in ((HeldFile, "write"), (envoy_config, "replace"), (Processes, "stop")):
        patch.setattr(owner, name, mortal(getattr(owner, name)))


def test_a_promotion_that_dies_at_any_step_is_not_begun_or_is_done_by_the_next(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.process().start(a_local_release("r0"))
    for steps in range(50):
        old, new, lived = f"r{steps}", f"r{steps + 1}", True
        machine.process().start(a_local_release(new))
        machine.process().ramp(new, 50)
        with monkeypatch.context() as patch:
            dies_after(steps, patch)
            try:
                machine.process().promote(new)
            except Died:
                lived = False
        assert machine.ask_once("treatment") == new  # meanwhile
        assert machine.ask_once("control") in (old, new)
        state = machine.process().resume()
        assert state.shares in ({old: 50, new: 50}, {new: 100})
        assert machine.ask_once("control") == (new if state.candidate is None else old)
        state = machine.process().promote(new)
        assert [outcome.release for outcome in state.past].count(new) == 1
        assert machine.ask_once("control") == machine.ask_once("treatment") == new
        assert Processes(machine.folder / "processes").names() == ["envoy", new]
        if lived:
            assert steps > 5
            return
    raise AssertionError("more than 50 steps")


def test_what_was_started_outlives_the_process_that_started_it(machine: Machine) -> None:
    starter = multiprocessing.get_context("spawn").Process(target=_start, args=(machine.folder, machine.port))
    starter.start()
    starter.join()
    assert starter.exitcode == 0
    time.sleep(0.5)  # for whatever ends with it
    machine.process()  # so that the fixture ends what runs
    assert machine.asked(3) == {"r1": 3}


def _start(folder: Path, port: int) -> None:
    machine = Machine(folder)
    machine.port = port
    machine.process().start(a_local_release("r1"))


def test_one_process_at_a_time(tmp_path: Path) -> None:
    ledger = FileLedger(folder=tmp_path, patience_s=0.0)
    with ledger.held() as held:
        held.write(State(strategy="local", stable=a_local_release("r1")))
        with pytest.raises(Busy, match="another process rolls out"), ledger.held():
            pass
        assert ledger.read() == held.state
    with ledger.held() as held:
        assert held.state == ledger.read()


def test_a_process_whose_number_another_has_got_is_not_ended(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    mine = processes.ensure("one", lambda port: [sys.executable, "-c", "import time; time.sleep(60)", str(port)])
    record = tmp_path / "one.json"
    stale = record.read_text().replace(str(mine.pid), str(os.getpid()))
    (tmp_path / "two.json").write_text(stale.replace('"one"', '"two"'))
    another = Processes(tmp_path)
    another.stop("two")  # would have ended these tests
    assert another.alive(mine)
    processes.stop("one")
    assert not another.alive(mine)


@pytest.mark.parametrize("uri", ["oci://models/shop:r2", "s3://models/r2"])
def test_what_does_not_lie_on_this_machine_is_refused(machine: Machine, uri: str) -> None:
    with pytest.raises(RolloutRefused, match="'local' needs file:///"):
        machine.process().start(a_release("r2", storage_uri=uri))


def eventually(true: Callable[[], bool]) -> None:
    for _ in range(100):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("it never came about")
