"""A thin client of the Kubernetes API: a few verbs, bounded retries, refusals as sentences.

Connection and credentials are the official client's (a pod's service account, or a kubeconfig). Every call here may be
repeated without harm: reads, server-side applies, and writes that hold only for one version of an object. So what may
have been lost on the way (429, 5xx, a timeout, a reset) is sent again, and a 409 is left to the caller, who knows what
to read again.
"""

import contextlib
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import kubernetes.client
import kubernetes.config
from kubernetes.client import ApiClient, ApiException
from urllib3.exceptions import HTTPError as TransportError

from serving.rollout.manifests import Manifest

FIELD_MANAGER = "nextpage-rollout"
RETRIED = (408, 429, 500, 502, 503, 504)


class ApiError(RuntimeError):
    """The API server refused a call, or did not answer one."""


class NotFound(ApiError):
    """There is no such object or path."""


class Conflict(ApiError):
    """The object is of another version than the one that the write was for, or exists already."""


class OwnedByAnother(ApiError):
    """A field is owned by another field manager."""


@dataclass(frozen=True, kw_only=True)
class Retries:
    attempts: int = 7
    first_s: float = 0.2  # doubled each time, with jitter
    longest_s: float = 10.0
    timeout_s: float = 10.0  # of one attempt


@dataclass(frozen=True, kw_only=True)
class Reference:
    """An object of the API, or all of a kind where `name` is empty."""

    api_version: str
    kind: str
    namespace: str
    name: str = ""

    @staticmethod
    def of(manifest: Manifest) -> "Reference":
        metadata = manifest["metadata"]
        return Reference(
            api_version=manifest["apiVersion"],
            kind=manifest["kind"],
            namespace=metadata["namespace"],
            name=metadata["name"],
        )

    @property
    def path(self) -> str:
        """Its path. All kinds here have a plural in -s."""
        root = "/apis/" if "/" in self.api_version else "/api/"
        kinds = f"{root}{self.api_version}/namespaces/{self.namespace}/{self.kind.lower()}s"
        return f"{kinds}/{self.name}" if self.name else kinds

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class Cluster:
    """The API server behind the official client's `ApiClient`."""

    def __init__(
        self,
        api: Any,
        retries: Retries | None = None,
        sleep: Callable[[float], None] = time.sleep,
        manager: str = FIELD_MANAGER,
    ) -> None:
        self._api = api
        self._manager = manager
        self._retries = retries or Retries()
        self._sleep = sleep

    def read(self, path: str) -> Manifest | None:
        """What lies at a path of the API; None where nothing does."""
        try:
            return self._send("GET", path)
        except NotFound:
            return None

    def get(self, reference: Reference) -> Manifest | None:
        return self.read(reference.path)

    def text(self, path: str, query: Mapping[str, str]) -> str:
        """What a path says in text, such as the log of a pod; nothing where it cannot be had. It is asked for once."""
        try:
            response = self._call(
                "GET", path, list(query.items()), None, "application/json", read_s=self._retries.timeout_s
            )
            return str(response.data.decode(errors="replace"))
        except (ApiException, TransportError):
            return ""

    def list(self, kind: Reference, labels: Mapping[str, str]) -> list[Manifest]:
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        found = self._send("GET", kind.path, [("labelSelector", selector)])
        return [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in found["items"]]

    def apply(self, manifest: Manifest, *, force: bool = False) -> Manifest:
        """Server-side apply; unknown fields are refused. With a `resourceVersion`, only to that version.

        Raises Conflict for another version, OwnedByAnother for a field of another manager (unless `force`).
        """
        query = [("fieldManager", self._manager), ("fieldValidation", "Strict"), ("force", str(force).lower())]
        return self._send("PATCH", Reference.of(manifest).path, query, manifest, "application/apply-patch+yaml")

    def create(self, manifest: Manifest) -> Manifest:
        """Raises Conflict where it exists; unknown fields are refused."""
        kind = Reference.of({**manifest, "metadata": {**manifest["metadata"], "name": ""}})
        query = [("fieldManager", self._manager), ("fieldValidation", "Strict")]
        return self._send("POST", kind.path, query, manifest)

    def replace(self, manifest: Manifest) -> Manifest:
        """Raises Conflict where the object is not of the manifest's `resourceVersion`."""
        return self._send("PUT", Reference.of(manifest).path, [("fieldManager", self._manager)], manifest)

    def delete(self, live: Manifest) -> None:
        """Delete just the version of the object that was read. One that is gone already is no error."""
        only = {name: live["metadata"][name] for name in ("uid", "resourceVersion")}
        with contextlib.suppress(NotFound):
            self._send("DELETE", Reference.of(live).path, [], {"preconditions": only})

    def wait_for_change(self, reference: Reference, resource_version: str, seconds: float) -> None:
        """Return when the object is no longer of that version, after `seconds` at the latest.

        It only saves waiting: whoever calls reads again anyway. So a watch that is refused, too old or reset is no
        error, and is followed by a pause.
        """
        kind = Reference(api_version=reference.api_version, kind=reference.kind, namespace=reference.namespace)
        query = [
            ("watch", "true"),
            ("fieldSelector", f"metadata.name={reference.name}"),
            ("resourceVersion", resource_version),
            ("timeoutSeconds", str(max(1, round(seconds)))),
        ]
        try:
            response = self._call("GET", kind.path, query, None, "application/json", read_s=seconds)
            with contextlib.closing(response):
                if b'"ERROR"' not in (first := next(response.stream(1024), b"")) and first:
                    return
        except (ApiException, TransportError):
            pass
        self._sleep(min(1.0, seconds))

    def _send(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        body: Manifest | None = None,
        content_type: str = "application/json",
    ) -> Manifest:
        pause, said = self._retries.first_s, ""
        for _ in range(self._retries.attempts):
            try:
                response = self._call(method, path, query, body, content_type, read_s=self._retries.timeout_s)
                answer: Manifest = json.loads(response.data)
                return answer
            except ApiException as failure:
                if failure.status not in RETRIED:
                    raise _refusal(method, path, failure) from failure
                asked, said = (failure.headers or {}).get("Retry-After", ""), f"HTTP {failure.status}"
            except (TransportError, ValueError) as failure:  # ValueError: half an answer
                asked, said = "", f"{type(failure).__name__}"
            at_least = float(asked) if asked.isdigit() else 0.0
            self._sleep(min(self._retries.longest_s, max(at_least, pause * random.uniform(0.5, 1.0))))
            pause *= 2
        raise ApiError(f"{method} {path} failed {self._retries.attempts} times, last with {said}: try again later")

    def _call(
        self, method: str, path: str, query: Sequence[tuple[str, str]], body: Manifest | None, kind: str, read_s: float
    ) -> Any:
        return self._api.call_api(
            path,
            method,
            query_params=list(query),
            header_params={"Accept": "application/json", "Content-Type": kind},
            body=body,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _return_http_data_only=True,
            _request_timeout=(self._retries.timeout_s, read_s),  # the client ignores a lone float
        )


def connect(retries: Retries | None = None, manager: str = FIELD_MANAGER) -> Cluster:
    """The cluster that this process runs in, or else the one of the kubeconfig."""
    configuration = kubernetes.client.Configuration()
    kubernetes.config.load_config(client_configuration=configuration)
    configuration.retries = False  # ours are the only retries
    return Cluster(ApiClient(configuration), retries, manager=manager)


def _refusal(method: str, path: str, failure: ApiException) -> ApiError:
    """What the API server's `Status` says, as one of our errors."""
    try:
        status = json.loads(failure.body or b"{}")
    except ValueError:
        status = {}
    said = f"{method} {path}: HTTP {failure.status} {status.get('message') or failure.reason}"
    if failure.status == 404:
        return NotFound(said)
    if failure.status != 409:
        return ApiError(said)
    causes = status.get("details", {}).get("causes", [])
    owned = [cause for cause in causes if cause.get("reason") == "FieldManagerConflict"]
    if owned:
        fields = "; ".join(f"{cause['field']}: {cause['message']}" for cause in owned)
        return OwnedByAnother(f"{path} is not all ours ({fields}): let that manager go of it, or take it over")
    return Conflict(said)
