"""The store behind HTTP on 127.0.0.1, with faults to order."""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes.client import ApiClient, ApiException, Configuration
from urllib3 import HTTPResponse

from tests.serving.rollout.store import Json, Key, Refusal, Store, copied

SERVED = ("serving.kserve.io/v1beta1", "gateway.networking.k8s.io/v1", "coordination.k8s.io/v1", "apps/v1")


@dataclass(frozen=True, kw_only=True)
class Call:
    method: str
    path: str
    watch: bool


Fault = str  # 409, 429, 500, 503, "before" and "after" (the connection drops then), "hang", "half"
Faults = Callable[[Call], Fault | None]


class ApiServer:
    """`faults` is asked about every call and names what goes wrong with it, or None."""

    def __init__(self, store: Store, served: tuple[str, ...] = SERVED) -> None:
        self.store = store
        self.served = served
        self.faults: Faults = lambda call: None
        self.calls: list[Call] = []
        self.logs: dict[str, str] = {}  # by pod
        self.hang_s = 1.0
        self.url = ""

    def client(self) -> ApiClient:
        configuration = Configuration(host=self.url)
        configuration.retries = False
        return ApiClient(configuration)

    def answer(
        self, method: str, path: str, query: dict[str, str], body: Json, content: str | None
    ) -> tuple[int, Json | str]:
        """Status and body of one call. Raises Refusal."""
        store = self.store
        if path.endswith("/log"):
            return 200, self._log(path.split("/")[-2], query)
        if path == "/apis":
            groups: dict[str, list[dict[str, str]]] = {}
            for served in self.served:
                groups.setdefault(served.split("/")[0], []).append({"groupVersion": served})
            return 200, {"groups": [{"name": name, "versions": versions} for name, versions in groups.items()]}
        key = _key(path, body)
        match method:
            case "GET" if not key[3]:
                labels = dict(pair.split("=") for pair in query.get("labelSelector", "").split(",") if pair)
                return 200, store.list(key[:3], labels)
            case "GET":
                return 200, store.get(key)
            case "POST":
                return 201, store.create(key, body)
            case "PUT":
                return 200, store.replace(key, body)
            case "PATCH":
                assert content == "application/apply-patch+yaml", content
                assert query["fieldValidation"] == "Strict", query
                return 200, store.apply(key, body, query["fieldManager"], force=query["force"] == "true")
            case _:
                return 200, store.delete(key, body.get("preconditions", {}))

    def _log(self, pod: str, query: dict[str, str]) -> str:
        """Its lines, each after its time, from a time on."""
        if pod not in self.logs:
            raise Refusal(400, "BadRequest", "the container is waiting to start")
        lines = self.logs[pod].splitlines(keepends=True)
        return "".join(line for line in lines if line.partition(" ")[0] >= query.get("sinceTime", ""))

    @contextmanager
    def running(self) -> Iterator["ApiServer"]:
        http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"api": self}))
        http.daemon_threads = True
        self.url = f"http://127.0.0.1:{http.server_address[1]}"
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield self
        finally:
            http.shutdown()
            http.server_close()


class InProcess:
    """The official client's one method that is used, without a socket between: for tests that make very many calls."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server

    def call_api(self, path: str, method: str, **given: Any) -> HTTPResponse:
        query = dict(given["query_params"])
        try:
            if query.get("watch"):
                raise Refusal(410, "Expired", "too old")
            body, content = copied(given["body"] or {}), given["header_params"]["Content-Type"]
            code, answer = self._server.answer(method, path, query, body, content)
        except Refusal as refusal:
            code, answer = refusal.code, refusal.status
        response = HTTPResponse(_encoded(answer), status=code)
        if code >= 300:
            raise ApiException(http_resp=response)
        return response


class _Handler(BaseHTTPRequestHandler):
    api: ApiServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        call = Call(method=self.command, path=parts.path, watch=query.get("watch") == "true")
        self.api.calls.append(call)
        fault = self.api.faults(call)
        if fault in ("before", "hang"):
            if fault == "hang":
                time.sleep(self.api.hang_s)
            self._drop()
            return
        try:
            if fault and fault.isdigit():
                raise Refusal(int(fault), {"409": "Conflict", "410": "Expired"}.get(fault, "Injected"), "injected")
            if call.watch:
                self._watch(parts.path, query, fault)
                return
            code, answer = self.api.answer(self.command, parts.path, query, body, self.headers["Content-Type"])
        except Refusal as refusal:
            code, answer = refusal.code, refusal.status
        if fault == "after":
            self._drop()
            return
        self._send(code, _encoded(answer), cut=fault == "half")

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _watch(self, path: str, query: dict[str, str], fault: str | None) -> None:
        """Events of one name after a version, until the time asked for is over."""
        store, kind = self.api.store, _key(path, {})[:3]
        name = query["fieldSelector"].partition("=")[2]
        after = int(query["resourceVersion"] or 0)
        ends = time.monotonic() + min(float(query["timeoutSeconds"]), 5.0)
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if fault == "after":
            self._drop()
            return
        while True:
            with store.changed:
                new = [event for event in store.events if event[0] > after and event[2] == (*kind, name)]
                if not new and time.monotonic() < ends:
                    store.changed.wait(0.05)
                    continue
            for version, event, _, live in new:
                self._chunk(json.dumps({"type": event, "object": live}).encode() + b"\n")
                after = version
            if time.monotonic() >= ends:
                self._chunk(b"")
                return

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _send(self, code: int, data: bytes, *, cut: bool = False) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if code == 429:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self._drop()

    def _drop(self) -> None:
        """A reset, as a broken network gives it."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


def _encoded(answer: Json | str) -> bytes:
    return (answer if isinstance(answer, str) else json.dumps(answer)).encode()


def _key(path: str, body: dict[str, Any]) -> Key:
    parts = path.strip("/").split("/")
    version = parts[1] if parts[0] == "api" else "/".join(parts[1:3])
    _, namespace, plural, *name = parts[2:] if parts[0] == "api" else parts[3:]
    return version, plural, namespace, name[0] if name else body.get("metadata", {}).get("name", "")
