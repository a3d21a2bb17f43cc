"""A stand-in for the Kubeflow Pipelines API: what is asked by HTTP to list, start and end runs, and what goes wrong."""

import json
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

LOST = "lost"
"""A fault of a start: the run is made, and the connection closed without an answer."""
LATE = "late"
"""The run is made after the answer, a 504."""


class KubeflowPipelines:
    """Answers as KFP 2.17 does. `faults`: what the next calls by method and the end of their path get, first to last: a
    status, or LOST or LATE for a start."""

    def __init__(self, versions: int = 2) -> None:
        self.runs: list[dict[str, Any]] = []
        self.faults: dict[tuple[str, str], list[int | str]] = {}
        self.calls: list[tuple[str, str]] = []
        self.authorization: set[str | None] = set()
        self.namespace = ""  # of the only profile; empty: Kubeflow has no profiles
        self.made_late: list[dict[str, Any]] = []
        self.versions, self._lock = versions, threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self, "GET", {})

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"] or 0)
                server.answer(self, "POST", json.loads(self.rfile.read(length) or b"{}"))

            def log_message(self, format: str, *values: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def add(self, name: str, *, created: datetime, state: str = "RUNNING", **parameters: Any) -> dict[str, Any]:
        run = {"run_id": f"r{len(self.runs)}", "display_name": name, "created_at": created.isoformat(), "state": state}
        self.runs.append(run | {"parameters": parameters})
        return self.runs[-1]

    @property
    def active(self) -> list[dict[str, Any]]:
        return [run for run in self.runs if run["state"] == "RUNNING"]

    def answer(self, request: BaseHTTPRequestHandler, method: str, body: dict[str, Any]) -> None:
        url = urlsplit(request.path)
        end = url.path.rpartition("/")[2]
        with self._lock:
            self.calls.append((method, end))
            self.authorization.add(request.headers.get("Authorization"))
            faults = self.faults.get((method, end), [])
            fault = faults.pop(0) if faults else None
            if isinstance(fault, int):
                return _send(request, fault, {"error": "planted"})
            content = self._content(method, end, url.path, parse_qs(url.query), body, late=fault == LATE)
        if fault == LOST:
            request.close_connection = True
        elif fault == LATE:
            _send(request, 504, {"error": "planted"})
        else:
            _send(request, 200 if content is not None else 404, content or {})
        return None

    def _content(
        self, method: str, end: str, path: str, query: dict[str, list[str]], body: dict[str, Any], *, late: bool
    ) -> dict[str, Any] | None:
        if end == "healthz":
            return {"multi_user": bool(self.namespace)}
        if end in ("experiments", "pipelines"):
            assert query.get("namespace", [""]) == [self.namespace]
        if end == "experiments":
            return {"experiments": [{"experiment_id": "e1", "display_name": "nextpage"}]}
        if end == "pipelines":
            return {"pipelines": [{"pipeline_id": "p1", "display_name": "nextpage-recommender"}]}
        if end == "versions":
            assert query["sort_by"] == ["created_at desc"]
            newest = {"pipeline_id": "p1", "pipeline_version_id": f"v{self.versions}"}
            return {"pipeline_versions": [newest] if self.versions else []}
        if (method, end) == ("POST", "runs"):
            made = {"created": datetime.now(UTC), "pipeline": body["pipeline_version_reference"]}
            made |= body["runtime_config"]["parameters"]
            if late:
                self.made_late.append({"name": body["display_name"], **made})
                return {}
            return self.add(body["display_name"], **made)
        if method == "POST" and end.endswith(":terminate"):
            (run,) = (run for run in self.runs if run["run_id"] == end.removesuffix(":terminate"))
            run["state"] = "CANCELED"
            return {}
        if end == "runs":
            (wanted,) = json.loads(query["filter"][0])["predicates"]
            assert (wanted["operation"], wanted["key"]) == ("IS_SUBSTRING", "display_name")
            found = [run for run in self.runs if wanted["stringValue"] in run["display_name"]]
            found.sort(key=lambda run: run["created_at"], reverse=True)
            return {"runs": found[: int(query["page_size"][0])]}
        return None

    def arrive(self) -> None:
        """What was made late is there now."""
        for run in self.made_late:
            self.add(**run)
        self.made_late.clear()


def _send(request: BaseHTTPRequestHandler, status: int, content: dict[str, Any]) -> None:
    payload = json.dumps(content, default=str).encode()
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(payload)))
    request.end_headers()
    request.wfile.write(payload)
