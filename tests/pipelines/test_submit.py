"""`nextpage submit` against a stand-in for the Kubeflow Pipelines API: no cluster runs here, its HTTP calls do."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from typer.testing import CliRunner

from pipelines.cli import app


class _Api(BaseHTTPRequestHandler):
    """Answers as KFP 2 does where nothing exists yet, and keeps what it was told."""

    runs: list[dict[str, Any]] = []  # noqa: RUF012 - the class is made anew for each server
    authorization: list[str | None] = []  # noqa: RUF012

    def do_GET(self) -> None:
        if "/healthz" in self.path:
            self._answer(200, {"multi_user": False})
        elif "/experiments" in self.path:
            self._answer(200, {"experiments": []})
        else:
            self._answer(404, {"error": "not found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/experiments"):
            self._answer(200, {"experiment_id": "e1", "display_name": body["display_name"]})
        else:
            self.runs.append(body)
            self.authorization.append(self.headers.get("Authorization"))
            self._answer(200, {"run_id": "r42", "experiment_id": "e1", "display_name": body["display_name"]})

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        payload = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *values: object) -> None:
        """Nothing: the test's output is not a server's log."""


@pytest.fixture
def api() -> Iterator[tuple[str, type[_Api]]]:
    handler = type("Api", (_Api,), {"runs": [], "authorization": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", handler
    finally:
        server.shutdown()
        server.server_close()


def test_submit_sends_the_pipeline_with_its_parameters_and_says_where_the_run_is(
    api: tuple[str, type[_Api]],
) -> None:
    host, handler = api
    words = ["submit", "--host", host, "--name", "tuesday", "--token", "s3cret", "--set", "training.steps=10"]
    words += ["--parameter", "nodes=4", "--parameter", "data_engine=spark"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert f"{host}/#/runs/details/r42" in result.output
    (run,) = handler.runs
    assert run["display_name"] == "tuesday"
    sent = run["pipeline_spec"]  # with what Kubernetes is asked for its pods
    assert sent["pipeline_spec"]["pipelineInfo"]["name"] == "nextpage-recommender"
    assert "kubernetes" in sent["platform_spec"]["platforms"]
    parameters = run["runtime_config"]["parameters"]
    assert parameters["release_name"] == "tuesday"
    assert parameters["settings"] == "training.steps=10"
    assert parameters["recipe"] == "genrec"
    assert (parameters["nodes"], parameters["data_engine"]) == (4, "spark")
    assert handler.authorization == ["Bearer s3cret"]
