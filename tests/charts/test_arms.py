"""Chart and rollout write the same objects for the same releases, so that either may go on where the other stood."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from components.deploy.config import read_rollout
from pipelines.machines import RECORDS
from serving.rollout.httproute import HttpRoute
from serving.rollout.release import Autoscaling, Pods, Release, Transformer
from serving.rollout.state import Phase, State
from serving.sinks import PASSWORD
from tests.charts.cases import CONTROL, SCALED, TREATMENT, TWO_ARMS
from tests.charts.rendering import Case, Manifest, changed, identity, notes, render

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
        image="ghcr.io/nextpage/serve:0.1.0-python3.11",
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


DOCS = Path(__file__).resolve().parents[2] / "docs"
RIGHTS = r"^\| `?([\w.]+)`? \| ([\w/]+) \| ([\w, ]+?) *(?:\(.*)?\|$"  # a row of a page's table: group, resources, verbs


@pytest.mark.parametrize(("page", "role"), [("rollout", "rollout"), ("cluster_training", "trainjobs")])
def test_the_rights_of_steps_are_those_that_their_page_names(
    rendered: dict[str, list[Manifest]], page: str, role: str
) -> None:
    rows = re.findall(RIGHTS, (DOCS / f"{page}.md").read_text(), re.MULTILINE)
    named = {(group.replace("core", ""), thing): set(verbs.split(", ")) for group, thing, verbs in rows}
    [found] = [m for m in rendered["default"] if identity(m) == f"Role/shop-nextpage-{role}"]
    given = {
        (rule["apiGroups"][0], thing): set(rule["verbs"]) for rule in found["rules"] for thing in rule["resources"]
    }
    assert given == {known: verbs for known, verbs in named.items() if "get" in verbs or "list" in verbs}


def test_the_notes_tell_a_rollout_all_that_this_installation_knows(chart: Path) -> None:
    values = {"serving": {"gpus": 1, "autoscaling": {"mostReplicas": 8}}}
    [told] = [line for line in notes(chart, Case(name="", values=values)).splitlines() if "{" in line]
    config = read_rollout(json.dumps(json.loads(told) | {"storage": "s3://m/{hash}"}))
    assert (config.service, config.namespace, config.hostnames) == (SERVICE, "team", ("nextpage.example.com",))
    assert config.gateway == STRATEGY.gateway
    assert config.pods == SCALING.pods
    assert config.autoscaling == SCALING.autoscaling
    assert {config.records, str(Path(config.events).parent)} == {RECORDS}  # the claim, as steps mount it
    [runtime] = [m for m in render(chart, Case(name="", values=values)) if m["kind"] == "ServingRuntime"]
    environment = {variable["name"]: variable.get("value") for variable in runtime["spec"]["containers"][0]["env"]}
    assert environment["NEXTPAGE_EVENTS"] == config.event_stream
    assert PASSWORD in environment
