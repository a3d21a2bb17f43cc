"""What KServe, Knative and a gateway make of the objects in a store: statuses, and who really gets traffic.

Written after their sources (KServe 0.20): revisions and `latestRolledoutRevision` in Knative mode, canary statuses in
Standard mode, weights and header rules of an HTTPRoute.
"""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.serving.rollout.store import Entry, Json, Key, Store

Traffic = dict[str, int]  # percent by release; 0 where only requests with an arm's header reach it


@dataclass
class Knative:
    """One Knative Service: its revisions and what KServe remembers of them."""

    revisions: list[tuple[Json, str]] = field(default_factory=list)  # template, release
    ready_after: list[int] = field(default_factory=list)  # ticks until the revision can be ready
    rolled_out: int = -1
    traffic: dict[int, int] = field(default_factory=dict)


class Controllers:
    """`never_ready` names releases whose pods do not come up. Statuses are told `lag` ticks after what they are about,
    and new revisions of Knative are ready `slow` ticks after they were made; traffic moves at once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.never_ready: set[str] = set()
        self.passed: set[str] = set()  # releases that passed a smoke test, as the test's smoke says
        self.lag = 0
        self.slow = 0
        self._due = 0
        self._untold: dict[Key, Json] = {}
        self.seen: list[Traffic] = []
        self.wrong: list[str] = []
        self._knative: dict[str, Knative] = {}
        store.settle = self.settle

    def settle(self) -> None:
        if self._due <= 0:
            self._due = self.lag
        with self.store.changed:
            for key in list(self.store.entries):
                live = self.store.entries[key].live
                if live["kind"] == "HTTPRoute":
                    self._untold[key] = _route_status(live)
                elif live["kind"] == "InferenceService":
                    knative = live["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Knative"
                    self._untold[key] = (self._settle_knative if knative else self._settle_standard)(key, live)
            if not self.lag:
                self._tell()
            self._note(self.traffic())

    def tick(self) -> None:
        """A call came in, and so time went by."""
        self._due -= 1
        waited = [memory for memory in self._knative.values() if any(left > 0 for left in memory.ready_after)]
        for memory in waited:
            memory.ready_after = [left - 1 for left in memory.ready_after]
        if any(left == 0 for memory in waited for left in memory.ready_after):
            self.settle()
        if self._due == 0:
            self._tell()

    def _tell(self) -> None:
        with self.store.changed:
            for key in self._untold.keys() & self.store.entries.keys():
                self.store.set_status(key, self._untold[key])
            self._untold.clear()

    def traffic(self) -> Traffic:
        """Who can be reached through the gateway now, by any user."""
        found: Traffic = {}
        for route in self.store.all("httproutes"):
            *pinned, anybody = route["spec"]["rules"]
            found = {_release_of_service(backend["name"]): 0 for rule in pinned for backend in rule["backendRefs"]}
            for backend in anybody["backendRefs"]:
                if weight := backend.get("weight", 100):
                    found[_release_of_service(backend["name"])] = weight
        for service in self.store.all("inferenceservices"):
            name = service["metadata"]["name"]
            if name in self._knative:
                memory = self._knative[name]
                for place, percent in memory.traffic.items():
                    if percent:
                        release = memory.revisions[place][1]
                        found[release] = found.get(release, 0) + percent
            elif "networking.kserve.io/visibility" not in service["metadata"]["labels"]:
                found |= _canary_traffic(service)
        return found

    def release_at(self, url: str) -> str:
        """The release whose pods answer at a cluster-local address; "" where none do."""
        host = str(urlsplit(url).hostname).split(".")[0]
        if host.startswith("latest-"):
            memory = self._knative[host.removeprefix("latest-").removesuffix("-predictor")]
            return memory.revisions[self._latest_ready(memory)][1]
        release = _release_of_service(host)
        names = {service["metadata"]["name"] for service in self.store.all("inferenceservices")}
        up = f"{host.split('-')[0]}-{release}" in names or any(
            release == canary["predictor"]["name"]
            for service in self.store.all("inferenceservices")
            for canary in [
                *service["spec"].get("canary", []),
                {"predictor": {"name": "", **service["spec"]["predictor"]}},
            ]
        )
        return release if up and release not in self.never_ready else ""

    def _note(self, traffic: Traffic) -> None:
        if not self.seen or self.seen[-1] != traffic:
            self.seen.append(traffic)
        first = len({release for seen in self.seen for release in seen}) <= 1
        self.wrong += [f"{release} had traffic unsmoked" for release in set(traffic) - self.passed if not first]

    def _settle_standard(self, key: Key, live: Json) -> Json:
        spec, name = live["spec"], live["metadata"]["name"]
        canaries = [
            {
                "name": canary["predictor"]["name"],
                "ready": canary["predictor"]["name"] not in self.never_ready,
                "trafficPercent": canary["trafficPercent"],
            }
            for canary in spec.get("canary", [])
        ]
        release = _release_of_uri(spec["predictor"]["model"]["storageUri"])
        if spec["predictor"].get("name"):
            for described in [spec["predictor"], *(canary["predictor"] for canary in spec.get("canary", []))]:
                self._deploy(key[2], f"{name}-{described['name']}-predictor", described["minReplicas"])
        part = "transformer" if "transformer" in spec else "predictor"
        status: Json = {
            "conditions": _conditions(release not in self.never_ready, "PredictorReady", "TransformerReady", "Ready"),
            "address": {"url": f"http://{name}-{part}.{key[2]}.svc.cluster.local"},
        }
        return status | ({"canaryStatuses": canaries} if canaries else {})

    def _deploy(self, namespace: str, name: str, replicas: int) -> None:
        metadata = {"name": name, "namespace": namespace, "resourceVersion": "0"}
        live = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "status": {"availableReplicas": replicas},
        }
        self.store.entries["apps/v1", "deployments", namespace, name] = Entry(live)

    def _settle_knative(self, key: Key, live: Json) -> Json:
        memory = self._knative.setdefault(key[3], Knative())
        spec = dict(live["spec"]["predictor"])
        percent = spec.pop("canaryTrafficPercent", None)
        template = {"spec": spec, "annotations": live["metadata"]["annotations"]}
        if not memory.revisions or memory.revisions[-1][0] != template:
            memory.revisions.append((template, _release_of_uri(spec["model"]["storageUri"])))
            memory.ready_after.append(self.slow)
        newest, ready = len(memory.revisions) - 1, self._latest_ready(memory)
        if percent is None or memory.rolled_out < 0:
            memory.traffic = {ready: 100}
        else:
            if percent < 100 and memory.rolled_out == newest == ready and newest > 0:
                memory.rolled_out -= 1  # KServe falls back on the revision before
            memory.traffic = {memory.rolled_out: 100 - percent}
            memory.traffic[ready] = memory.traffic.get(ready, 0) + percent
        if memory.traffic.get(ready) == 100 and ready >= 0:
            memory.rolled_out = ready
        said = {
            "latestCreatedRevision": f"rev-{newest}",
            "latestReadyRevision": f"rev-{ready}",
            "traffic": [{"revisionName": f"rev-{place}", "percent": share} for place, share in memory.traffic.items()],
        }
        conditions = _conditions(ready == newest, "PredictorReady", "Ready")
        return {"conditions": conditions, "components": {"predictor": said}}

    def _latest_ready(self, memory: Knative) -> int:
        ready = [
            place
            for place, (_, release) in enumerate(memory.revisions)
            if release not in self.never_ready and memory.ready_after[place] <= 0
        ]
        return ready[-1] if ready else -1


def _canary_traffic(service: Json) -> Traffic:
    ready = {canary["name"]: canary["ready"] for canary in service.get("status", {}).get("canaryStatuses", [])}
    shares = {
        canary["predictor"]["name"]: canary["trafficPercent"]
        for canary in service["spec"].get("canary", [])
        if ready.get(canary["predictor"]["name"])
    }
    stable = _release_of_uri(service["spec"]["predictor"]["model"]["storageUri"])
    return {release: share for release, share in {stable: 100 - sum(shares.values()), **shares}.items() if share}


def _route_status(live: Json) -> Json:
    conditions = _conditions(True, "Accepted", "ResolvedRefs")
    for entry in conditions:
        entry["observedGeneration"] = live["metadata"]["generation"]
    return {"parents": [{"conditions": conditions}]}


def _conditions(good: bool, *kinds: str) -> list[Json]:
    return [
        {"type": kind, "status": "True" if good else "False", "message": "" if good else "no pod"} for kind in kinds
    ]


def _release_of_uri(uri: str) -> str:
    return uri.rpartition(":")[2]


def _release_of_service(name: str) -> str:
    """`shop-r43-predictor` is r43's, `shop-week-12-predictor` week-12's."""
    return "-".join(name.split("-")[1:-1])
