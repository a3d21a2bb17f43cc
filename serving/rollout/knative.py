"""Strategy `knative`: `canaryTrafficPercent` of one InferenceService in Knative mode.

Where Knative is all there is. A request draws its arm, so this serves an operational canary and no experiment. No
transformer: Knative would split transformer and predictor each for itself, and pair the one's new with the other's old.

KServe splits between the newest ready revision and the one that last had 100%, and remembers just that one. So the
stable release must have had 100%, which it has once this strategy has settled on it; and a candidate that was at 100%
is taken back by 0% first, which makes KServe fall back on the revision before, and only then is the stable release's
spec put back: as a revision of its own, which must answer as that release before it is given traffic.
"""

from dataclasses import dataclass

from serving.rollout.cluster import Reference
from serving.rollout.cluster_driver import Missing, Read
from serving.rollout.driver import Probe
from serving.rollout.errors import RolloutRefused
from serving.rollout.manifests import Manifest, checked_name, inference_service, predictor
from serving.rollout.release import Release
from serving.rollout.state import Phase, State
from serving.rollout.status import conditions_missing

INFERENCE_SERVICE = ("serving.kserve.io/v1beta1", "InferenceService")


@dataclass(frozen=True, kw_only=True)
class Knative:
    service: str
    namespace: str

    name = "knative"
    kinds = (INFERENCE_SERVICE,)

    def check(self, release: Release) -> None:
        checked_name(f"latest-{self.service}-predictor")
        if release.transformer:
            raise RolloutRefused(
                f"release {release.name} has a transformer, which Knative splits apart from its predictor, so that "
                "one release's may call the other's: use 'httproute'"
            )
        if release.autoscaling:
            raise RolloutRefused(f"release {release.name} asks for KEDA, but Knative scales by itself: leave it out")

    def manifests(self, state: State) -> list[Manifest]:
        spec = self._spec(state)
        if spec is None:
            return []
        return [
            inference_service(
                self.service,
                self.namespace,
                service=self.service,
                mode="Knative",
                autoscaler="",
                spec={"predictor": spec},
                annotations={
                    "serving.kserve.io/enable-tag-routing": "true"
                },  # a host of its own for the newest revision
            )
        ]

    def missing(self, state: State, read: Read) -> Missing | None:
        if state.stable is None and state.phase not in (Phase.STARTING, Phase.PROMOTING):
            return None
        reference = Reference(
            api_version=INFERENCE_SERVICE[0], kind=INFERENCE_SERVICE[1], namespace=self.namespace, name=self.service
        )
        live = read(reference)
        said = (live or {}).get("status", {}).get("components", {}).get("predictor", {})
        newest = said.get("latestCreatedRevision")
        share = sum(
            target.get("percent", 0)
            for target in said.get("traffic", [])
            if target["revisionName"] == newest  # whichever of the targets it is that names it
        )
        wanted = state.percent if state.candidate and state.stable else 100
        if newest is None or share != wanted:
            return Missing(
                sentence=f"{reference}: revision {newest} has {share}%, not yet {wanted}%", seen_in=reference
            )
        if state.candidate is None or state.phase is Phase.ROLLING_BACK:
            return None  # that a candidate never became ready is no reason to keep it
        if said.get("latestReadyRevision") != newest:
            return Missing(sentence=f"{reference}: revision {newest} is not ready", seen_in=reference)
        return conditions_missing(reference, live, "Ready")

    def probe(self, state: State, read: Read) -> Probe | None:
        release = {Phase.STARTING: state.candidate, Phase.RESTORING: state.stable}.get(state.phase)
        if release is None:
            return None
        return Probe(release=release, url=f"http://latest-{self.service}-predictor.{self.namespace}.svc.cluster.local")

    def keeps(self, live: Manifest, state: State) -> bool:
        return state.stable is not None

    def _spec(self, state: State) -> Manifest | None:
        release = state.stable if state.phase is Phase.RESTORING else state.candidate or state.stable
        if release is None:
            return None
        spec = {"minReplicas": release.pods.replicas, **predictor(release, self.service)}
        if state.stable is None or state.candidate is None:
            return spec  # KServe refuses to split before something had 100%
        return {"canaryTrafficPercent": state.percent, **spec}
