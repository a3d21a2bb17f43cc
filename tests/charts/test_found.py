"""What is rendered follows from what the cluster serves and from what was asked for; NOTES say so."""

import json
from pathlib import Path

import pytest

from pipelines.monitoring import ENDPOINT
from tests.charts.cases import CASES
from tests.charts.rendering import APIS, Case, Manifest, notes, render

OF_API = {
    "pipelines.kubeflow.org/v2beta1": {"Pipeline", "PipelineVersion"},
    "serving.kserve.io/v1beta1": {"ServingRuntime"},
    "trainer.kubeflow.org/v1alpha1": {"ClusterTrainingRuntime"},
    "monitoring.coreos.com/v1": set(),  # of what is served
}


def kinds(manifests: list[Manifest]) -> set[str]:
    return {manifest["kind"] for manifest in manifests}


@pytest.mark.parametrize("api", OF_API)
def test_an_api_alone_brings_its_objects_and_no_others(rendered: dict[str, list[Manifest]], api: str) -> None:
    short = api.partition(".")[0]
    custom = {
        m["kind"] for m in rendered[f"only-{short}"] if m["apiVersion"].split("/")[0] in {a.split("/")[0] for a in APIS}
    }
    assert custom == OF_API[api]
    assert not OF_API[api] & kinds(rendered[f"without-{short}"])


def test_pipelines_are_uploaded_where_there_are_no_resources_for_them(rendered: dict[str, list[Manifest]]) -> None:
    for case, uploads in (("default", False), ("default-bare", True), ("upload", True)):
        names = {m["metadata"]["name"] for m in rendered[case] if m["kind"] == "ConfigMap"}
        assert ("shop-nextpage-pipeline-recommender" in names) == uploads
        assert ("PipelineVersion" in kinds(rendered[case])) != uploads


def test_feast_is_the_operators_where_it_can_be(rendered: dict[str, list[Manifest]]) -> None:
    assert "FeatureStore" in kinds(rendered["operator"])
    assert "Deployment" not in kinds(rendered["operator"])
    assert "FeatureStore" not in kinds(rendered["operator-absent"])
    assert "Deployment" in kinds(rendered["operator-absent"])


def test_nothing_asked_for_is_next_to_nothing(rendered: dict[str, list[Manifest]]) -> None:
    assert kinds(rendered["nothing"]) == {"ServiceAccount", "Role", "RoleBinding"}


def test_recurring_runs_are_given_fields_of_their_pipelines_form(chart: Path) -> None:
    gate = {"parameters": {"rollout": "service: shop"}}
    for own, told in (({}, "service: shop"), ({"rollout": "", "cooldown_days": 3}, "")):
        values = {"pipelines": {"recurringRuns": {"gate": gate, "monitoring": {"parameters": own}}}}
        made = render(chart, Case(name="", values=values))
        [plan] = [json.loads(m["data"]["plan.json"]) for m in made if "plan.json" in m.get("data", {})]
        runs = {run["pipeline"]: run["parameters"] for run in plan["recurring"]}
        assert runs["nextpage-rollout"] == gate["parameters"]
        assert runs["nextpage-monitoring"] == {"endpoint": ENDPOINT, "rollout": told} | own
        forms = {m["spec"]["pipelineName"]: m["spec"]["pipelineSpec"] for m in made if m["kind"] == "PipelineVersion"}
        for name, parameters in runs.items():
            assert parameters.keys() <= forms[name]["root"]["inputDefinitions"]["parameters"].keys()


@pytest.mark.parametrize("helm", [3, 4])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "default",
            ["PipelineVersion resources", "releases are made by the rollout", "featureStore.registrySecret is not set"],
        ),
        (
            "default-bare",
            ["uploaded to http://ml-pipeline", "no API serving.kserve.io/v1beta1", "no API trainer.kubeflow.org"],
        ),
        (
            "two-arms-no-gateway",
            ["made by this chart", "route skipped: no API gateway.networking.k8s.io/v1", "helm test shop"],
        ),
        ("no-password", ["WITHOUT a password"]),
        (
            "nothing",
            ["OPEN: networkPolicy.enabled is false", "pipelines.install is none", "redis       skipped: disabled"],
        ),
    ],
)
def test_notes_say_what_was_found_what_was_skipped_and_what_comes_next(
    chart: Path, name: str, said: list[str], helm: int
) -> None:
    case = next(case for case in CASES if case.name == name)
    shown = notes(chart, case, helm=helm)
    for words in said:
        assert words in shown
    assert "Next:" in shown
    assert not [line for line in shown.splitlines() if "%!" in line or "<nil>" in line]
