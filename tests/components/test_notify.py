"""However a run ends, its summary is written, and a webhook is told or not; the run does not depend on it."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl, local

from components.notify.component import notify
from components.notify.notes import leave_release, leave_verdict, take
from components.notify.webhook import post
from components.require.component import require
from nextpage.gates import Verdict

SOUND = Verdict(gate="data quality", passed=True, reasons=("13 expectations hold",))
WEAK = Verdict(gate="recall", passed=False, reasons=("HR@10 0.10 | counts 0.12",))


class Hook:
    """A webhook that gives the `answers` one after another, the last of them for ever."""

    def __init__(self) -> None:
        self.answers, self.got = [200], list[dict[str, Any]]()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                answer = hook.answers.pop(0) if len(hook.answers) > 1 else hook.answers[0]
                self.send_response(answer)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *values: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/services/T0/s3cret"


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()


@dsl.component(base_image="python", install_kfp_package=False)
def judge(passed: bool, verdict: dsl.Output[dsl.Artifact]) -> None:
    from pathlib import Path

    from nextpage.gates import Verdict

    Verdict(gate="recall", passed=passed, reasons=("HR@10 0.10 | counts 0.12",)).write(Path(verdict.path))


@dsl.pipeline(name="judging")
def judging(passed: bool, notes: str, webhook: str) -> None:
    run = {"notes": notes, "run": dsl.PIPELINE_JOB_ID_PLACEHOLDER}
    with dsl.ExitHandler(notify(name="shop", webhook=webhook, **run)):
        require(verdict=judge(passed=passed).outputs["verdict"], **run)


def ran(folder: Path, **arguments: Any) -> Path:
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "root"), raise_on_error=True)
    judging(notes=str(folder / "notes"), **arguments)
    (tasks,) = (folder / "root").iterdir()
    return tasks


def test_a_run_that_a_gate_stopped_is_told_with_the_gates_reason(tmp_path: Path, hook: Hook) -> None:
    with pytest.raises(RuntimeError):
        ran(tmp_path, passed=False, webhook=hook.url)
    (told,) = hook.got
    assert told["text"] == "shop: the run failed. gate 'recall': HR@10 0.10 | counts 0.12"
    assert (told["state"], told["release"]) == ("FAILED", {})
    assert told["verdicts"] == [{"gate": "recall", "passed": False, "reasons": list(WEAK.reasons)}]
    assert told["link"] == f"#/runs/details/{told['run']}"
    (card,) = tmp_path.glob("root/*/notify/card")
    assert "| recall | **failed** | HR@10 0.10 \\| counts 0.12 |" in card.read_text()
    assert "127.0.0.1 was told, and answered 200" in card.read_text()
    assert not list((tmp_path / "notes" / "runs").iterdir())  # taken, so that they do not pile up


def test_a_webhook_that_fails_fails_no_run_and_its_secret_is_not_told(
    tmp_path: Path, hook: Hook, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hook.answers = [404]
    monkeypatch.setenv("NEXTPAGE_WEBHOOK", hook.url)
    tasks = ran(tmp_path, passed=True, webhook="")
    (told,) = hook.got  # a 404 is asked once
    assert told["text"] == "shop: the run succeeded"
    assert "127.0.0.1 answered 404, 1 times: nobody was told" in (tasks / "notify/card").read_text()
    assert "s3cret" not in (tasks / "notify/card").read_text() + capsys.readouterr().out


def test_a_busy_webhook_is_asked_again_and_not_for_ever(hook: Hook) -> None:
    hook.answers = [503, 429, 200]
    assert post(hook.url, {}, wait_s=0.0) == "127.0.0.1 was told, and answered 200."
    hook.answers = [500]
    assert post(hook.url, {}, wait_s=0.0) == "127.0.0.1 answered 500, 3 times: nobody was told."
    assert len(hook.got) == 6


@pytest.mark.parametrize("url", ["file:///etc/s3cret", "hooks.example/s3cret", "http://[s3cret", "ftp://h/s3cret"])
def test_what_is_no_address_on_the_web_is_not_asked(url: str) -> None:
    said = post(url, {}, wait_s=0.0)
    assert "begins with http:// or https://" in said
    assert "s3cret" not in said


def test_nobody_there_and_elsewhere_are_no_success(hook: Hook) -> None:
    hook.answers = [302]
    assert post(hook.url, {}, wait_s=0.0) == "127.0.0.1 answered 302, 1 times: nobody was told."
    hook.server.server_close()
    assert post("http://127.0.0.1:1/s3cret", {}, wait_s=0.0).startswith("127.0.0.1 did not answer (URLError), 3 times")


def test_notes_are_of_their_own_run_and_a_folder_that_cannot_be_written_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_verdict(str(tmp_path), "r1", SOUND)
    leave_verdict(str(tmp_path), "r2", WEAK)
    leave_release(str(tmp_path), "r1", name="shop", hash="abc")
    assert take(str(tmp_path), "r1") == ([SOUND], {"name": "shop", "hash": "abc"})
    assert take(str(tmp_path), "r1") == ([], {})
    assert take(str(tmp_path), "r2") == ([WEAK], {})
    (tmp_path / "file").touch()
    leave_verdict(str(tmp_path / "file"), "r1", SOUND)
    assert "no note for the run's summary" in capsys.readouterr().out
