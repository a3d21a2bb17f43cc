"""Chart and rollout write the same objects for the same releases, so that either may go on where the other stood."""

from pathlib import Path
from typing import Any

import pytest

from serving.rollout.httproute import HttpRoute
from serving.rollout.release import Autoscaling, Pods, Release, Transformer
from serving.rollout.state import Phase, State
from tests.charts.cases import CONTROL, SCALED, TREATMENT, TWO_ARMS
from tests.charts.rendering import Case, Manifest, changed, identity, render

SERVICE, ACCOUNT = "shop-nextpage", "shop-nextpage-serving"
STRATEGY = HttpRoute(service=SERVICE, namespace="team", hostnames=("nextpage.example.com",))


def release(said: dict[str, Any], **changes: Any) -> Release:
    return Release(
        name=said["name"],
        storage_uri=said["storageUri"],
        hash=said["hash"],
        **{"pods": Pods(replicas=2, service_account=ACCOUNT), **changes},
    )


STABLE = release(CONTROL)
CANDIDATE = release(
    TREATMENT,
    transformer=Transformer(
        image="ghcr.io/nextpage/serve:0.1.0",
        feature_server="http://shop-nextpage-features.team.svc:6566",
        feature_service="recommender_r43",
        feature_service_hash="5d1e",
        pods=Pods(replicas=2, cpu="1", memory="1Gi", service_account=ACCOUNT),
    ),
)
SCALING = release(
    CONTROL,
    pods=Pods(replicas=2, gpus=1, service_account=ACCOUNT),
    autoscaling=Autoscaling(prometheus="http://prometheus-operated.monitoring:9090", most_replicas=8),
)


def of_chart(chart: Path, values: dict[str, Any]) -> dict[str, Manifest]:
    found = render(chart, Case(name="", values=values))
    return {identity(m): m for m in found if m["kind"] in ("InferenceService", "HTTPRoute")}


def of_rollout(*states: State) -> dict[str, Manifest]:
    return {identity(manifest): manifest for state in states for manifest in STRATEGY.manifests(state)}


def ramping(percent: int) -> State:
    return State(strategy="httproute", stable=STABLE, candidate=CANDIDATE, phase=Phase.RAMPING, percent=percent)


STARTED = State(strategy="httproute", candidate=STABLE, phase=Phase.PROMOTING, percent=100)


@pytest.mark.parametrize("share", [0, 10, 50, 100])
def test_two_arms_and_their_route_are_the_rollouts(chart: Path, share: int) -> None:
    made = of_chart(chart, changed(TWO_ARMS, "serving.treatmentShare", share))
    assert made == of_rollout(STARTED, ramping(share))


def test_a_release_alone_with_autoscaling_is_the_rollouts(chart: Path) -> None:
    promoting = State(strategy="httproute", candidate=SCALING, phase=Phase.PROMOTING, percent=100)
    [arm] = [m for m in STRATEGY.manifests(promoting) if m["kind"] == "InferenceService"]
    settled = of_rollout(State(strategy="httproute", stable=SCALING))
    assert of_chart(chart, SCALED) == {identity(arm): arm, **settled}


def test_with_the_rollout_as_owner_the_chart_makes_none_of_its_objects(rendered: dict[str, list[Manifest]]) -> None:
    assert not {"InferenceService", "HTTPRoute"} & {m["kind"] for m in rendered["default"]}


@pytest.mark.parametrize(("case", "may_write"), [("default", True), ("two-arms", False)])
def test_pipelines_may_write_arms_only_where_they_own_them(
    rendered: dict[str, list[Manifest]], case: str, may_write: bool
) -> None:
    [role] = [m for m in rendered[case] if identity(m) == "Role/shop-nextpage-rollout"]
    verbs = {verb for rule in role["rules"] for verb in rule["verbs"]}
    assert bool(verbs - {"get", "list", "watch"}) == may_write


def test_the_rollouts_rights_are_those_that_its_page_names(rendered: dict[str, list[Manifest]]) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "rollout.md").read_text()
    rows = [line.split("|")[1:4] for line in page.splitlines() if line.startswith("| `")]
    named = {(group.strip(" `"), thing.strip()): set(verbs.strip().split(", ")) for group, thing, verbs in rows}
    [role] = [m for m in rendered["default"] if identity(m) == "Role/shop-nextpage-rollout"]
    for rule in role["rules"]:
        assert named[rule["apiGroups"][0], rule["resources"][0]] == set(rule["verbs"])
