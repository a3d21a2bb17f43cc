"""Both Helms render the same, and a real API server's schemas take all of it."""

import json
from pathlib import Path

import kubernetes_validate
import pytest

from tests.charts.cases import CASES
from tests.charts.rendering import Case, Manifest, identity, render, run
from tests.serving.rollout.crds import CRDS, problems

OLDEST, NEWEST = "1.31", "1.37"
needs_crds = pytest.mark.skipif(
    not CRDS.is_dir(), reason="the CRDs' schemas (../shared/crds) are not beside this checkout"
)


BUILT_IN = ("v1", "apps/v1", "batch/v1", "policy/v1", "rbac.authorization.k8s.io/v1", "networking.k8s.io/v1")


NO_SCHEMA = ("PodDefault",)  # a test of its own holds it to Kubeflow's page


def distinct(rendered: dict[str, list[Manifest]], *, custom: bool) -> list[Manifest]:
    """Each object once, however many cases hold it."""
    objects = {json.dumps(manifest, sort_keys=True): manifest for case in rendered.values() for manifest in case}
    known = [manifest for manifest in objects.values() if manifest["kind"] not in NO_SCHEMA]
    return [manifest for manifest in known if (manifest["apiVersion"] not in BUILT_IN) == custom]


def test_both_helms_render_the_same_objects(chart: Path, rendered: dict[str, list[Manifest]]) -> None:
    for case in CASES:
        assert render(chart, case, helm=3) == rendered[case.name], case.name


@pytest.mark.parametrize("helm", [3, 4])
@pytest.mark.parametrize("preset", ["", "cpu", "gpu", "airgap"])
def test_lint_is_strict_and_finds_nothing(chart: Path, preset: str, helm: int) -> None:
    digests = {"images": {"requireDigests": False}}  # which digests, only an installation knows
    run(
        chart,
        Case(name="", presets=(preset,) if preset else (), values=digests),
        "lint",
        helm=helm,
        extra=("--strict",),
    )


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_builtin_objects_are_valid_strictly(rendered: dict[str, list[Manifest]], version: str) -> None:
    for manifest in distinct(rendered, custom=False):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_newest_kubernetes_that_can_be_asked_is_asked() -> None:
    assert kubernetes_validate.latest_version().startswith(f"{NEWEST}.")


@needs_crds
def test_custom_resources_are_what_their_crds_take(rendered: dict[str, list[Manifest]]) -> None:
    found = distinct(rendered, custom=True)
    assert {manifest["kind"] for manifest in found} == {
        *("Pipeline", "PipelineVersion", "ClusterTrainingRuntime", "LocalQueue", "FeatureStore", "ServingRuntime"),
        *("InferenceService", "HTTPRoute", "PodMonitor", "ServiceMonitor", "PrometheusRule"),
    }
    for manifest in found:
        assert problems(manifest) == [], identity(manifest)


@needs_crds
def test_a_field_that_no_crd_knows_is_found(rendered: dict[str, list[Manifest]]) -> None:
    for manifest in distinct(rendered, custom=True):
        broken = {**manifest, "spec": {**manifest["spec"], "colour": "blue"}}
        assert problems(broken), identity(manifest)


def test_an_unknown_field_of_a_builtin_object_is_found(rendered: dict[str, list[Manifest]]) -> None:
    deployment = next(m for m in distinct(rendered, custom=False) if m["kind"] == "StatefulSet")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**deployment, "spec": {**deployment["spec"], "replica": 1}}, NEWEST, strict=True)


def test_the_token_of_a_step_that_starts_runs_is_the_one_of_kubeflows_page(rendered: dict[str, list[Manifest]]) -> None:
    """Its webhook refuses pods for which two PodDefaults differ: teams have theirs from that page."""
    [found] = [m for m in rendered["default"] if m["kind"] == "PodDefault"]
    folder = "/var/run/secrets/kubeflow/pipelines"
    token = {"path": "token", "expirationSeconds": 7200, "audience": "pipelines.kubeflow.org"}
    assert found["spec"] == {
        "desc": "Allow access to Kubeflow Pipelines",
        "selector": {"matchLabels": {"access-ml-pipeline": "true"}},
        "env": [{"name": "KF_PIPELINES_SA_TOKEN_PATH", "value": f"{folder}/token"}],
        "volumes": [{"name": "volume-kf-pipeline-token", "projected": {"sources": [{"serviceAccountToken": token}]}}],
        "volumeMounts": [{"mountPath": folder, "name": "volume-kf-pipeline-token", "readOnly": True}],
    }
    assert not [m for m in rendered["cpu"] if m["kind"] == "PodDefault"]  # Kubeflow without profiles asks for no token
