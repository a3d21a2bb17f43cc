"""What each strategy writes is what the real CRDs take, in every state; and what they must not take, they refuse."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import yaml

from serving.rollout.cluster_driver import Strategy
from serving.rollout.errors import RolloutRefused
from serving.rollout.manifests import Manifest
from serving.rollout.release import Autoscaling, Pods, Release, Transformer
from serving.rollout.state import Phase, State
from tests.serving.rollout.conftest import CRDS_HERE, STRATEGIES, a_release
from tests.serving.rollout.crds import CRDS, problems

needs_crds = pytest.mark.skipif(not CRDS_HERE, reason="the CRDs' schemas (../shared/crds) are not beside this checkout")

PODS = Pods(replicas=4, gpus=1, service_account="shop")
PLAIN = [a_release(name, pods=PODS) for name in ("r1", "r2")]
FULL = [
    replace(
        release,
        autoscaling=Autoscaling(prometheus="http://prometheus:9090", most_replicas=8),
        transformer=Transformer(
            image="shop@sha256:0", feature_server="http://feast:6566", feature_service="f", feature_service_hash="h"
        ),
    )
    for release in PLAIN
]


RAMP = [(Phase.RAMPING, percent) for percent in (0, 1, 10, 50, 99, 100)]
BESIDE = [(Phase.STARTING, 0), *RAMP, (Phase.PROMOTING, 100), (Phase.ROLLING_BACK, 0), (Phase.RESTORING, 0)]
ALONE = [(Phase.STARTING, 0), (Phase.PROMOTING, 100)]


def states(strategy: str, stable: Release, candidate: Release) -> list[State]:
    common: Any = {"strategy": strategy, "candidate": candidate}
    return [
        State(strategy=strategy, stable=stable),
        *(State(**common, phase=phase, percent=percent) for phase, percent in ALONE),
        *(State(**common, stable=stable, phase=phase, percent=percent) for phase, percent in BESIDE),
    ]


def written(strategy: str, releases: list = PLAIN, percent: int = 10) -> list[Manifest]:
    stable, candidate = releases
    state = State(strategy=strategy, stable=stable, candidate=candidate, phase=Phase.RAMPING, percent=percent)
    return STRATEGIES[strategy]().manifests(state)


@needs_crds
@pytest.mark.parametrize(
    ("strategy", "releases"),
    [("httproute", PLAIN), ("httproute", FULL), ("standard-canary", PLAIN), ("knative", PLAIN)],
)
def test_every_state_is_objects_that_the_crds_take(strategy: str, releases: list) -> None:
    made: Strategy = STRATEGIES[strategy]()
    for state in states(strategy, *releases):
        for manifest in made.manifests(state):
            assert problems(manifest) == [], state


@needs_crds
@pytest.mark.parametrize(
    "name", ["01-isvc-standard-canary", "02-isvc-knative-canary", "03-ab-httproute", "14-isvc-prod"]
)
def test_the_validator_takes_what_a_real_api_server_took(name: str) -> None:
    assert problems(yaml.safe_load((CRDS.parent / "manifests" / f"{name}.yaml").read_text())) == []


def change(*path: Any, to: Any) -> Callable[[Manifest], None]:
    def changed(manifest: Manifest) -> None:
        for name in path[:-1]:
            manifest = manifest[name]
        manifest[path[-1]] = to

    return changed


def twice(*path: Any) -> Callable[[Manifest], None]:
    def changed(manifest: Manifest) -> None:
        for name in path:
            manifest = manifest[name]
        manifest.append(copy.deepcopy(manifest[0]))  # type: ignore[attr-defined]

    return changed


CONTAINER = ("spec", "transformer", "containers", 0)
PORTS = [{"containerPort": 8080}, {"containerPort": 8080, "protocol": "TCP"}]  # one, once the default is there
MODEL = ("spec", "predictor", "model")
RULE = ("spec", "rules", 0)
BROKEN = [
    ("httproute", 0, change("spec", "predictor", "replicas", to=2), "'replicas' was unexpected"),
    ("httproute", 0, change(*MODEL, "storageURI", to="x"), "'storageURI' was unexpected"),
    ("httproute", 0, change("spec", "predictor", "minReplicas", to="two"), "not of type 'integer'"),
    ("httproute", 0, change(*MODEL, "resources", "limits", "memory", to="4 GB"), "does not match"),
    ("httproute", 0, change("apiVersion", to="serving.kserve.io/v1"), "not served in v1"),
    ("httproute", 0, change(*CONTAINER, "ports", to=PORTS), "stands twice"),
    ("httproute", 1, change(*RULE, "backendRefs", 0, "port", to=None), "Must have port for Service reference"),
    ("httproute", 1, change(*RULE, "backendRefs", 0, "weight", to=-1), "less than the minimum"),
    ("httproute", 1, change(*RULE, "timeouts", to={"request": "1s", "backendRequest": "2s"}), "backendRequest timeout"),
    ("httproute", 1, change(*RULE, "timeouts", "request", to="5 s"), "does not match"),
    ("httproute", 1, change(*RULE, "matches", 0, "headers", 0, "type", to="Prefix"), "is not one of"),
    (
        "httproute",
        1,
        change("spec", "rules", 2, "matches", 0, "path", "value", to="no-slash"),
        "must be an absolute path",
    ),
    ("httproute", 1, change("spec", "rules", 2, "matches", 0, "path", "value", to="/a//b"), "must not contain '//'"),
    ("httproute", 1, change(*RULE, "sticky", to=True), "'sticky' was unexpected"),
    ("httproute", 1, twice("spec", "parentRefs"), "sectionName or port must be"),
    ("httproute", 1, twice(*RULE, "matches", 0, "headers"), "stands twice"),
    ("standard-canary", 0, change("spec", "canary", 0, "trafficPercent", to=None), "'trafficPercent' is a required"),
    ("standard-canary", 0, change("spec", "canary", 0, "trafficPercent", to=101), "greater than the maximum"),
    ("standard-canary", 0, change("spec", "canary", 0, "predictor", "model", "name", to=None), "'name' is a required"),
    ("standard-canary", 0, change("spec", "canary", 0, "predictor", "name", to="R_2"), "does not match"),
    ("knative", 0, change("spec", "predictor", "canaryTrafficPercent", to="10%"), "not of type 'integer'"),
    ("knative", 0, change("spec", "canaryTrafficPercent", to=10), "'canaryTrafficPercent' was unexpected"),
]


@needs_crds
@pytest.mark.parametrize(("strategy", "which", "spoil", "said"), BROKEN)
def test_a_spoilt_manifest_is_refused(strategy: str, which: int, spoil: Callable[[Manifest], None], said: str) -> None:
    manifest = copy.deepcopy(written(strategy, FULL if strategy == "httproute" else PLAIN)[which])
    assert problems(manifest) == []
    spoil(manifest)
    assert said in " ".join(problems(manifest))


@needs_crds
def test_a_percentage_that_the_crd_lets_pass_does_not_come_about() -> None:
    (manifest,) = written("knative")
    manifest["spec"]["predictor"]["canaryTrafficPercent"] = 250
    assert problems(manifest) == []
    with pytest.raises(RolloutRefused, match="percent is 250"):
        written("knative", percent=250)


@needs_crds
def test_a_rule_that_cannot_be_evaluated_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.serving.rollout import crds

    program = crds._program("nosuchfunction(self)")
    monkeypatch.setattr(crds, "_program", lambda rule: program)
    with pytest.raises(RuntimeError, match="nosuchfunction"):
        problems(written("httproute")[1])


def test_a_header_pins_both_arms_and_weights_are_for_the_others() -> None:
    route = written("httproute", percent=10)[1]
    treatment, control, anybody = route["spec"]["rules"]
    assert treatment["matches"] == [{"headers": [{"type": "Exact", "name": "x-nextpage-arm", "value": "treatment"}]}]
    assert [backend["name"] for backend in treatment["backendRefs"]] == ["shop-r2-predictor"]
    assert [match["headers"][0]["value"] for match in control["matches"]] == ["control", "outside"]
    assert [backend["name"] for backend in control["backendRefs"]] == ["shop-r1-predictor"]
    assert {backend["name"]: backend["weight"] for backend in anybody["backendRefs"]} == {
        "shop-r1-predictor": 90,
        "shop-r2-predictor": 10,
    }


def test_once_a_release_is_being_promoted_no_header_leads_to_the_old_one() -> None:
    state = State(strategy="httproute", stable=PLAIN[0], candidate=PLAIN[1], phase=Phase.PROMOTING, percent=100)
    rules = STRATEGIES["httproute"]().manifests(state)[1]["spec"]["rules"]
    weights = [(backend["name"], backend.get("weight", 1)) for rule in rules for backend in rule["backendRefs"]]
    assert {name for name, weight in weights if weight} == {"shop-r2-predictor"}


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.RAMPING, Phase.ROLLING_BACK])
def test_at_0_percent_no_header_leads_to_the_candidate(phase: Phase) -> None:
    state = State(strategy="httproute", stable=PLAIN[0], candidate=PLAIN[1], phase=phase)
    route = STRATEGIES["httproute"]().manifests(state)[1]
    assert "r2" not in str(route["spec"])


def test_users_reach_an_arm_with_a_transformer_through_it() -> None:
    assert [rule["backendRefs"][0]["name"] for rule in written("httproute", FULL)[1]["spec"]["rules"][:2]] == [
        "shop-r2-transformer",
        "shop-r1-transformer",
    ]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_annotations_and_labels_that_kserve_copies_into_pods_stay_through_a_ramp(strategy: str) -> None:
    def metadata(percent: int) -> Any:
        return [
            manifest["metadata"] for manifest in written(strategy, percent=percent) if manifest["kind"] != "HTTPRoute"
        ]

    assert metadata(0) == metadata(10) == metadata(100)


@pytest.mark.parametrize(("percent", "replicas"), [(0, 1), (10, 1), (26, 2), (50, 2), (51, 3), (100, 4)])
def test_a_canary_has_its_share_of_the_pods_and_at_least_one(percent: int, replicas: int) -> None:
    (manifest,) = written("standard-canary", percent=percent)
    (canary,) = manifest["spec"]["canary"]
    assert (canary["trafficPercent"], canary["predictor"]["minReplicas"]) == (percent, replicas)
    assert canary["predictor"]["name"] == "r2"
    assert manifest["spec"]["predictor"]["minReplicas"] == 4


def test_a_canary_is_emptied_before_it_is_removed_and_full_before_it_replaces_the_stable_one() -> None:
    """KServe deletes the Deployment of whichever goes before its route has moved."""
    canary, stable, candidate = STRATEGIES["standard-canary"](), *PLAIN
    shown = [
        [entry["trafficPercent"] for entry in canary.manifests(state)[0]["spec"].get("canary", [])]
        for state in states("standard-canary", stable, candidate)
        if state.stable and state.phase in (Phase.PROMOTING, Phase.ROLLING_BACK, Phase.RESTORING, Phase.SETTLED)
    ]
    assert shown == [[], [100], [0], []]  # settled, promoting, rolling back, restoring


@pytest.mark.parametrize("strategy", ["standard-canary", "knative"])
@pytest.mark.parametrize(
    ("release", "said"), [(FULL[0], "transformer"), (replace(FULL[0], transformer=None), "asks for")]
)
def test_what_a_strategy_would_serve_wrongly_is_refused(strategy: str, release: Any, said: str) -> None:
    with pytest.raises(RolloutRefused, match=said):
        STRATEGIES[strategy]().check(release)


@pytest.mark.parametrize("strategy", ["httproute", "standard-canary"])
def test_a_name_too_long_for_a_service_is_refused(strategy: str) -> None:
    with pytest.raises(RolloutRefused, match="63 lower-case letters"):
        STRATEGIES[strategy]().check(a_release("r" * 50))
