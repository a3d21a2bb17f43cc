"""The Job that registers pipelines: run twice, or killed anywhere and run again, it leaves one of each."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import create_autospec
from urllib.parse import parse_qsl, urlsplit

import pytest
from kfp import Client
from kfp_server_api import ApiException

from tests.charts.rendering import Manifest, identity
from tests.charts.scripts import load

register = load("register")


class Killed(Exception):
    pass


class Kubeflow:
    """Kubeflow Pipelines as far as the Job calls it: what is there by name, and the calls that changed it."""

    def __init__(self) -> None:
        self.pipelines: dict[str, set[str]] = {}
        self.runs: dict[str, Any] = {}
        self.written: list[str] = []
        self.dies_after: int | None = None

    def client(self) -> Client:
        client = create_autospec(Client, instance=True)  # a call that the real one would not take raises
        client.list_pipelines.side_effect = self._list_pipelines
        client.list_pipeline_versions.side_effect = self._list_versions
        client.upload_pipeline.side_effect = self._upload_pipeline
        client.upload_pipeline_version.side_effect = self._upload_version
        client.create_experiment.return_value = SimpleNamespace(experiment_id="e")
        client.list_recurring_runs.side_effect = lambda **_: SimpleNamespace(
            recurring_runs=list(self.runs.values()) or None
        )
        client.create_recurring_run.side_effect = self._schedule
        client.delete_recurring_run.side_effect = self._remove
        return client

    def _write(self, said: str) -> None:
        if self.dies_after is not None and len(self.written) >= self.dies_after:
            raise Killed
        self.written.append(said)

    def _list_pipelines(self, *, page_size: int, filter: str, namespace: str | None) -> SimpleNamespace:
        found = [SimpleNamespace(pipeline_id=name) for name in self.pipelines if name == _asked(filter)]
        return SimpleNamespace(pipelines=found or None)

    def _list_versions(self, pipeline_id: str, *, page_size: int, filter: str) -> SimpleNamespace:
        found = [SimpleNamespace(pipeline_version_id=v) for v in self.pipelines[pipeline_id] if v == _asked(filter)]
        return SimpleNamespace(pipeline_versions=found or None)

    def _upload_pipeline(self, path: str, *, pipeline_name: str, namespace: str | None) -> SimpleNamespace:
        self._write(f"pipeline {pipeline_name}")
        assert pipeline_name not in self.pipelines
        self.pipelines[pipeline_name] = set()
        return SimpleNamespace(pipeline_id=pipeline_name)

    def _upload_version(self, path: str, *, pipeline_version_name: str, pipeline_id: str) -> None:
        self._write(f"version {pipeline_version_name}")
        if pipeline_version_name in self.pipelines[pipeline_id]:
            raise ApiException(status=409)
        self.pipelines[pipeline_id].add(pipeline_version_name)

    def _schedule(self, experiment_id: str, job_name: str, **said: Any) -> None:
        self._write(f"schedule {job_name}")
        assert job_name not in {run.display_name for run in self.runs.values()}
        run_id = f"{job_name}-{len(self.written)}"
        self.runs[run_id] = SimpleNamespace(display_name=job_name, recurring_run_id=run_id, **said)

    def _remove(self, run_id: str) -> None:
        self._write(f"remove {run_id}")
        del self.runs[run_id]


def _asked(query: str) -> str:
    return json.loads(query)["predicates"][0]["stringValue"]


WATCH = {"name": "shop-monitoring", "pipeline": "watch", "version": "1-a", "cron": "0 0 4 * * *", "parameters": {}}
PLAN = {
    "namespace": "team",
    "runner": "default-editor",
    "upload": [{"name": name, "version": "1-a", "file": f"{name}.yaml"} for name in ("learn", "watch")],
    "recurring": [WATCH],
    "names": ["shop-gate", "shop-monitoring"],
}


def test_a_first_run_uploads_and_schedules_and_a_second_one_writes_nothing() -> None:
    kubeflow = Kubeflow()
    register.register(kubeflow.client(), PLAN, Path("/plan"))
    assert kubeflow.pipelines == {"learn": {"1-a"}, "watch": {"1-a"}}
    [run] = kubeflow.runs.values()
    assert (run.cron_expression, run.max_concurrency, run.no_catchup) == ("0 0 4 * * *", 1, True)
    assert (run.version_id, run.service_account) == ("1-a", "default-editor")
    before = list(kubeflow.written)
    register.register(kubeflow.client(), PLAN, Path("/plan"))
    assert kubeflow.written == before


@pytest.mark.parametrize("after", range(6))
def test_a_job_that_is_killed_and_run_again_ends_as_one_that_was_not(after: int) -> None:
    kubeflow, whole = Kubeflow(), Kubeflow()
    kubeflow.dies_after = after
    try:
        register.register(kubeflow.client(), PLAN, Path("/plan"))
    except Killed:
        assert after < 5
    kubeflow.dies_after = None
    register.register(kubeflow.client(), PLAN, Path("/plan"))
    register.register(whole.client(), PLAN, Path("/plan"))
    assert kubeflow.pipelines == whole.pipelines
    assert [run.display_name for run in kubeflow.runs.values()] == ["shop-monitoring"]


@pytest.mark.parametrize("change", [{"cron": "0 0 5 * * *"}, {"parameters": {"a": 1}}])
def test_a_recurring_run_that_is_no_longer_as_planned_is_replaced(change: dict[str, Any]) -> None:
    kubeflow = Kubeflow()
    register.register(kubeflow.client(), PLAN, Path("/plan"))
    register.register(kubeflow.client(), {**PLAN, "recurring": [{**WATCH, **change}]}, Path("/plan"))
    [run] = kubeflow.runs.values()
    assert run.description == register.said({**WATCH, **change})


def test_what_is_planned_no_more_is_removed_and_what_others_scheduled_stays() -> None:
    kubeflow = Kubeflow()
    kubeflow.runs["theirs"] = SimpleNamespace(display_name="theirs", recurring_run_id="theirs", description="")
    register.register(kubeflow.client(), PLAN, Path("/plan"))
    register.register(kubeflow.client(), {**PLAN, "recurring": []}, Path("/plan"))
    assert list(kubeflow.runs) == ["theirs"]


def test_an_answer_that_was_lost_is_no_failure_and_another_refusal_is() -> None:
    for status, raises in ((409, False), (403, True)):
        client = Kubeflow().client()
        client.upload_pipeline_version.side_effect = ApiException(status=status)
        if raises:
            with pytest.raises(ApiException):
                register.upload(client, None, Path("/plan/x.yaml"), "x", "1")
        else:
            register.upload(client, None, Path("/plan/x.yaml"), "x", "1")


def test_a_pipeline_that_is_not_there_yet_is_no_success() -> None:
    with pytest.raises(SystemExit, match="watch 1-a is not in Kubeflow Pipelines yet"):
        register.register(Kubeflow().client(), {**PLAN, "upload": []}, Path("/plan"))


class Api(BaseHTTPRequestHandler):
    """The same, over HTTP, as the real client calls it."""

    kubeflow: Kubeflow
    tokens: ClassVar[set[str | None]] = set()
    bodies: ClassVar[list[dict[str, Any]]] = []

    def do_GET(self) -> None:
        path, query = self._asked()
        if path == "pipelines":
            found = [{"pipeline_id": name} for name in self.kubeflow.pipelines if name == _asked(query["filter"])]
            self._answer({"pipelines": found})
        elif path.endswith("/versions"):
            known = self.kubeflow.pipelines[path.split("/")[1]]
            found = [{"pipeline_version_id": name} for name in known if name == _asked(query["filter"])]
            self._answer({"pipeline_versions": found})
        elif path == "recurringruns":
            self._answer({"recurringRuns": self.bodies})
        else:
            self._answer({})  # health; no experiment yet

    def do_POST(self) -> None:
        path, query = self._asked()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if path == "pipelines/upload":
            self.kubeflow.pipelines[query["name"]] = set()
            self._answer({"pipeline_id": query["name"]})
        elif path == "pipelines/upload_version":
            self.kubeflow.pipelines[query["pipelineid"]].add(query["name"])
            self._answer({})
        elif path == "experiments":
            self._answer({"experiment_id": "e", **json.loads(body)})
        else:
            self.bodies.append({"recurring_run_id": "r", **json.loads(body)})
            self._answer(self.bodies[-1])

    def _asked(self) -> tuple[str, dict[str, str]]:
        asked = urlsplit(self.path)
        self.tokens.add(self.headers["Authorization"])
        return asked.path.removeprefix("/apis/v2beta1/"), dict(parse_qsl(asked.query))

    def _answer(self, said: dict[str, Any]) -> None:
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *said: Any) -> None:
        pass


@pytest.mark.filterwarnings("ignore:This client only works with Kubeflow Pipeline")
def test_the_real_client_says_it_with_the_pods_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("of-the-pod")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for pipeline in PLAN["upload"]:
        (tmp_path / pipeline["file"]).write_text("pipelineInfo: {name: x}")
    Api.kubeflow = Kubeflow()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for _ in range(2):
            client = register.connect(f"http://127.0.0.1:{server.server_port}")
            register.register(client, PLAN, tmp_path)
    finally:
        server.shutdown()
        server.server_close()
    assert Api.tokens == {"Bearer of-the-pod"}
    assert Api.kubeflow.pipelines == {"learn": {"1-a"}, "watch": {"1-a"}}
    [run] = Api.bodies
    assert run["trigger"]["cron_schedule"]["cron"] == "0 0 4 * * *"
    assert (run["service_account"], run["no_catchup"]) == ("default-editor", True)


def test_the_charts_plan_is_one_that_the_job_can_read(rendered: dict[str, list[Manifest]]) -> None:
    for case, uploads in (("upload", True), ("default", False)):
        [config] = [m for m in rendered[case] if identity(m) == "ConfigMap/shop-nextpage-register"]
        plan = json.loads(config["data"]["plan.json"])
        assert bool(plan["upload"]) == uploads
        assert "nextpage-recommender" in [p["name"] for p in plan["upload"]] or not uploads
        kubeflow = Kubeflow()
        if not uploads:
            kubeflow.pipelines = {run["pipeline"]: {run["version"]} for run in plan["recurring"]}
        register.register(kubeflow.client(), plan, Path("/plan"))
        assert {run.display_name for run in kubeflow.runs.values()} == {run["name"] for run in plan["recurring"]}


def test_pipelines_without_profiles_have_no_namespace(rendered: dict[str, list[Manifest]]) -> None:
    [config] = [m for m in rendered["cpu-bare"] if identity(m) == "ConfigMap/shop-nextpage-register"]
    assert json.loads(config["data"]["plan.json"])["namespace"] is None
