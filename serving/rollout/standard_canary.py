"""Strategy `standard-canary`: `spec.canary` of one InferenceService in Standard mode (KServe 0.21, Gateway API).

KServe draws an arm for every request, so this serves an operational canary and no experiment. No transformer: a canary
would miss it. What KServe does, and what follows:

- The canary's pods are taken off the stable ones' number as soon as one of them is up, so the canary is given its share
  of them and no more. Capacity dips while pods move; `httproute` does not have that.
- A canary at 0% without `minReplicas` has no pods and is never Ready: it is always given.
- Promotion gives the Deployment of the canary to the stable predictor and deletes the old one before the route has
  moved. So the canary first has 100% and all its pods; taking back goes by 0% for the same reason.
"""

from dataclasses import dataclass

from serving.rollout.cluster import Reference
from serving.rollout.cluster_driver import Missing, Read
from serving.rollout.driver import Probe
from serving.rollout.errors import RolloutRefused
from serving.rollout.manifests import CONTAINER, Manifest, checked_name, inference_service, predictor
from serving.rollout.release import Release
from serving.rollout.state import Phase, State
from serving.rollout.status import available_missing, conditions_missing

INFERENCE_SERVICE = ("serving.kserve.io/v1beta1", "InferenceService")


@dataclass(frozen=True, kw_only=True)
class StandardCanary:
    service: str
    namespace: str
    port: int = 80  # 8080 where KServe is set to make headless Services

    name = "standard-canary"
    kinds = (INFERENCE_SERVICE,)

    def check(self, release: Release) -> None:
        checked_name(self._deployment(release))
        if release.transformer:
            raise RolloutRefused(
                f"release {release.name} has a transformer, which KServe leaves out of a canary: use 'httproute'"
            )
        if release.autoscaling:
            raise RolloutRefused(
                f"release {release.name} asks for autoscaling, a canary in KServe has a fixed number of pods: "
                "leave autoscaling out, or use 'httproute'"
            )

    def manifests(self, state: State) -> list[Manifest]:
        stable = state.stable or state.candidate  # the first release has no other beside it
        if stable is None:
            return []
        spec: Manifest = {
            "predictor": {
                "name": stable.name,
                "minReplicas": stable.pods.replicas,
                **predictor(stable, self.service),
            }
        }
        if self._has_canary(state):
            assert state.candidate is not None
            spec["canary"] = [self._canary(state.candidate, stable, state.percent)]
        return [
            inference_service(
                self.service, self.namespace, service=self.service, mode="Standard", autoscaler="none", spec=spec
            )
        ]

    def missing(self, state: State, read: Read) -> Missing | None:
        service = self._reference(INFERENCE_SERVICE, self.service)
        live = read(service)
        canaries = (live or {}).get("status", {}).get("canaryStatuses", [])
        shown = {canary["name"]: canary["trafficPercent"] for canary in canaries}
        wanted = {state.candidate.name: state.percent} if state.candidate and self._has_canary(state) else {}
        if shown != wanted:
            return Missing(sentence=f"{service} shows canaries at {shown}, not yet at {wanted}", seen_in=service)
        if state.candidate is None or state.phase in (Phase.ROLLING_BACK, Phase.RESTORING):
            return None
        if state.phase is Phase.PROMOTING:
            deployment = self._reference(("apps/v1", "Deployment"), self._deployment(state.candidate))
            all_pods = (state.stable or state.candidate).pods.replicas
            if missing := available_missing(deployment, read(deployment), all_pods):
                return missing
        if not wanted:
            return conditions_missing(service, live, "Ready")
        if not all(canary["ready"] for canary in canaries):  # Ready speaks of the stable pods alone
            return Missing(sentence=f"{service}: canary {state.candidate.name} is not ready", seen_in=service)
        return None

    def probe(self, state: State, read: Read) -> Probe | None:
        if state.phase is not Phase.STARTING or state.candidate is None:
            return None
        host = f"{self._deployment(state.candidate)}.{self.namespace}.svc"  # the Service bears the Deployment's name
        return Probe(release=state.candidate, url=f"http://{host}:{self.port}")

    def keeps(self, live: Manifest, state: State) -> bool:
        return state.stable is not None

    def _has_canary(self, state: State) -> bool:
        return state.stable is not None and state.candidate is not None and state.phase is not Phase.RESTORING

    def _canary(self, release: Release, stable: Release, percent: int) -> Manifest:
        share = max(1, -(-stable.pods.replicas * percent // 100))
        described = predictor(release, self.service)
        return {
            "trafficPercent": percent,
            "predictor": {
                "name": release.name,
                "minReplicas": share,
                # The schema asks for a name here, and the webhook refuses one in the stable predictor.
                **described,
                "model": {"name": CONTAINER, **described["model"]},
            },
        }

    def _deployment(self, release: Release) -> str:
        return f"{self.service}-{release.name}-predictor"

    def _reference(self, kind: tuple[str, str], name: str) -> Reference:
        return Reference(api_version=kind[0], kind=kind[1], namespace=self.namespace, name=name)
