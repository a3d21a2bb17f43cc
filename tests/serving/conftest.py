import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.standin import MODEL


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass(frozen=True, kw_only=True)
class Server:
    process: subprocess.Popen[str]
    http_port: int
    grpc_port: int
    events: Path | str  # a folder, or a URL of Redis

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def predict(self, *instances: object, **headers: str) -> httpx.Response:
        body = {"instances": list(instances)}
        return httpx.post(f"{self.url}/v1/models/{MODEL}:predict", json=body, headers=headers, timeout=20)

    def slate(self, **request: Any) -> dict[str, Any]:
        answer = self.predict(request)
        assert answer.status_code == 200, answer.text
        return answer.json()["predictions"][0]

    def metric(self, name: str) -> float:
        for line in httpx.get(f"{self.url}/metrics").text.splitlines():
            if line.startswith(name + " "):
                return float(line.split()[-1])
        raise KeyError(name)


def start(arguments: list[str], *, http_port: int, grpc_port: int, events: Path | str) -> Server:
    """Start a serving process and wait until it answers. Raises RuntimeError with its output where it ends first."""
    process = subprocess.Popen(
        [sys.executable, *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    server = Server(process=process, http_port=http_port, grpc_port=grpc_port, events=events)
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}: {process.communicate()[0]}")
        try:
            httpx.get(f"{server.url}/v2/health/ready").raise_for_status()
            return server
        except httpx.HTTPError:
            time.sleep(0.1)


def start_standin(events: Path | str, *more: str, module: str = "tests.serving.standin") -> Server:
    http_port, grpc_port = free_port(), free_port()
    arguments = ["-m", module, str(http_port), str(grpc_port), str(events), *more]
    return start(arguments, http_port=http_port, grpc_port=grpc_port, events=events)


def end(server: Server) -> str:
    """SIGTERM; what the process printed."""
    server.process.terminate()
    return server.process.communicate(timeout=30)[0]


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One stand-in server, transformer and predictor in one process, for all tests that do not end it."""
    started = start_standin(tmp_path_factory.mktemp("events"))
    yield started
    end(started)
