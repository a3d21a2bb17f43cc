"""Strategy `httproute`: an InferenceService a release, and our own HTTPRoute in front of two of them.

An identified user's request bears its arm as a header, which the route matches exactly; the weighted rule serves the
unidentified, and they are no part of an experiment. An InferenceService never changes, so that a release cannot be
altered under its name, and a transformer goes with the predictor that it belongs to. Promotion is one write.

Works with any KServe in Standard mode and Gateway API 1.2 (`timeouts`).
"""

from dataclasses import dataclass

from serving.rollout.cluster import Reference
from serving.rollout.cluster_driver import Missing, Read
from serving.rollout.driver import Probe
from serving.rollout.manifests import (
    RELEASE_LABEL,
    Manifest,
    backend,
    checked_name,
    exact_header,
    http_route,
    inference_service,
    predictor,
    transformer,
)
from serving.rollout.release import Autoscaling, Release
from serving.rollout.state import Phase, State
from serving.rollout.status import conditions_missing, route_missing

INFERENCE_SERVICE = ("serving.kserve.io/v1beta1", "InferenceService")
HTTP_ROUTE = ("gateway.networking.k8s.io/v1", "HTTPRoute")


@dataclass(frozen=True, kw_only=True)
class HttpRoute:
    service: str
    namespace: str
    hostnames: tuple[str, ...]
    gateway: tuple[str, str] = ("kserve", "kserve-ingress-gateway")  # namespace, name
    arm_header: str = "x-nextpage-arm"
    treatment: str = "treatment"
    stable: tuple[str, ...] = ("control", "outside")  # arms that the stable release serves
    timeout: str = "5s"

    name = "httproute"
    kinds = (INFERENCE_SERVICE, HTTP_ROUTE)

    def check(self, release: Release) -> None:
        checked_name(self._backend(release))

    def manifests(self, state: State) -> list[Manifest]:
        if state.stable is None and state.candidate is None:
            return []
        arms = [self._arm(state.candidate)] if state.candidate else []
        return [*arms, self._route(state)]

    def missing(self, state: State, read: Read) -> Missing | None:
        if state.candidate and state.phase not in (Phase.ROLLING_BACK, Phase.RESTORING):
            arm = self._reference(INFERENCE_SERVICE, self._arm_name(state.candidate))
            parts = ["PredictorReady", *(["TransformerReady"] if state.candidate.transformer else []), "Ready"]
            if missing := conditions_missing(arm, read(arm), *parts):  # Ready leaves the transformer out
                return missing
        if state.stable is None and state.candidate is None:
            return None
        route = self._reference(HTTP_ROUTE, self.service)
        return route_missing(route, read(route))

    def probe(self, state: State, read: Read) -> Probe | None:
        if state.phase is not Phase.STARTING or state.candidate is None:
            return None
        arm = read(self._reference(INFERENCE_SERVICE, self._arm_name(state.candidate))) or {}
        address = arm.get("status", {}).get("address", {}).get("url")  # KServe knows whether its Services are headless
        return Probe(
            release=state.candidate, url=address or f"http://{self._backend(state.candidate)}.{self.namespace}.svc"
        )

    def keeps(self, live: Manifest, state: State) -> bool:
        if live["kind"] == "HTTPRoute":
            return state.stable is not None
        return state.stable is not None and live["metadata"]["labels"].get(RELEASE_LABEL) == state.stable.name

    def _route(self, state: State) -> Manifest:
        stable = [backend(self._backend(state.stable))] if state.stable else []  # none: the gateway answers 500
        anybody: Manifest = {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}
        rules = [{**anybody, "backendRefs": stable}]
        if state.candidate and state.percent:
            name = self._backend(state.candidate)
            candidate = [backend(name)]
            others = [exact_header(self.arm_header, arm) for arm in self.stable]
            shared = [{**entry, "weight": 100 - state.percent} for entry in stable] + [backend(name, state.percent)]
            rules = [
                {"matches": [exact_header(self.arm_header, self.treatment)], "backendRefs": candidate},
                {"matches": others, "backendRefs": stable if state.phase is Phase.RAMPING else candidate},
                {**anybody, "backendRefs": shared},
            ]
        return http_route(
            self.service,
            self.namespace,
            service=self.service,
            gateway=self.gateway,
            hostnames=self.hostnames,
            rules=[{**rule, "timeouts": {"request": self.timeout}} for rule in rules],
            annotations={"nextpage/shares": ", ".join(f"{name} {share}%" for name, share in state.shares.items())},
        )

    def _arm(self, release: Release) -> Manifest:
        spec = {"predictor": {**self._replicas(release), **predictor(release, self.service)}}
        if release.transformer:
            spec["transformer"] = transformer(release.transformer, self.service)
        return inference_service(
            self._arm_name(release),
            self.namespace,
            service=self.service,
            mode="Standard",
            autoscaler="keda" if release.autoscaling else "none",
            spec=spec,
            labels={
                RELEASE_LABEL: release.name,
                "networking.kserve.io/visibility": "cluster-local",  # no way to an arm but through our route
            },
            annotations={"nextpage/release-hash": release.hash},
        )

    def _replicas(self, release: Release) -> Manifest:
        scaling = release.autoscaling
        if scaling is None:
            return {"minReplicas": release.pods.replicas}
        return {
            "minReplicas": release.pods.replicas,
            "maxReplicas": scaling.most_replicas,
            "autoScaling": {"metrics": [_in_flight(scaling, self.namespace, self._arm_name(release))]},
        }

    def _arm_name(self, release: Release) -> str:
        return f"{self.service}-{release.name}"

    def _backend(self, release: Release) -> str:
        """The Service of an arm that takes users' requests."""
        return f"{self._arm_name(release)}-{'transformer' if release.transformer else 'predictor'}"

    def _reference(self, kind: tuple[str, str], name: str) -> Reference:
        return Reference(api_version=kind[0], kind=kind[1], namespace=self.namespace, name=name)


def _in_flight(scaling: Autoscaling, namespace: str, arm: str) -> Manifest:
    query = f'sum(nextpage_inflight_requests{{namespace="{namespace}",pod=~"{arm}-predictor-.*"}})'
    return {
        "type": "External",
        "external": {
            "metric": {"backend": "prometheus", "serverAddress": scaling.prometheus, "query": query},
            "target": {"type": "Value", "value": str(scaling.in_flight)},
        },
    }
