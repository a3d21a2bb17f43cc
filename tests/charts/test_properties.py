"""What holds for every object of every case, whatever is installed and wherever."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.charts.cases import DIGEST, LONG
from tests.charts.rendering import Case, Manifest, identity, pod_of, render

PART_OF = {"app.kubernetes.io/part-of": "nextpage"}
NO_NETWORK = ("claims",)  # components whose pods speak to nobody
KSERVE_LABELS = [{"component": "predictor"}, {"component": "transformer"}]  # KServe adds one of them to a pod
KSERVE_SETS = (
    "ServingRuntime",
    "InferenceService",
)  # whose pods KServe finishes: their security context is a container's


@pytest.fixture(scope="session")
def everything(rendered: dict[str, list[Manifest]]) -> list[tuple[str, list[Manifest]]]:
    return list(rendered.items())


def pods(manifests: list[Manifest]) -> Iterator[tuple[Manifest, Manifest]]:
    for manifest in manifests:
        pod = pod_of(manifest)
        if pod is not None:
            yield manifest, pod


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    return selector.get("matchLabels", {}).items() <= labels.items()


def labels_of_pods(manifests: list[Manifest]) -> list[dict[str, str]]:
    """Of every pod that comes about, those of releases that a rollout will make included."""
    found = [
        pod["metadata"].get("labels", {}) for manifest, pod in pods(manifests) if manifest["kind"] != "ServingRuntime"
    ]
    services = {match["nextpage/service"] for match in _matched(manifests) if "nextpage/service" in match}
    steps = [{"pipelines.kubeflow.org/v2_component": "true"}]  # of Kubeflow's
    feast = [{"feast.dev/name": m["metadata"]["name"], **PART_OF} for m in manifests if m["kind"] == "FeatureStore"]
    arms = [{"nextpage/service": service, **PART_OF, **added} for service in services for added in KSERVE_LABELS]
    return [*found, *steps, *feast, *arms]


def _matched(value: Any) -> Iterator[dict[str, str]]:
    """Every matchLabels anywhere in it."""
    if isinstance(value, dict):
        if "matchLabels" in value:
            yield value["matchLabels"]
        for part in value.values():
            yield from _matched(part)
    elif isinstance(value, list):
        for part in value:
            yield from _matched(part)


def test_every_container_is_restricted_and_bounded(everything: list[tuple[str, list[Manifest]]]) -> None:
    for case, manifests in everything:
        for manifest, pod in pods(manifests):
            where = f"{case}: {identity(manifest)}"
            for name in ("hostNetwork", "hostPID", "hostIPC"):
                assert not pod["spec"].get(name), where
            assert not any("hostPath" in volume for volume in pod["spec"].get("volumes", [])), where
            for container in containers(pod):
                security = container["securityContext"]
                whole = security if manifest["kind"] in KSERVE_SETS else {**pod["spec"]["securityContext"], **security}
                assert whole["runAsNonRoot"] is True, where
                assert manifest["kind"] == "InferenceService" or whole["runAsUser"] > 0, where
                assert security["allowPrivilegeEscalation"] is False, where
                assert security["readOnlyRootFilesystem"] is True, where
                assert security["capabilities"] == {"drop": ["ALL"]}, where
                assert whole["seccompProfile"] == {"type": "RuntimeDefault"}, where
                for amounts in ("requests", "limits"):
                    assert {"cpu", "memory"} <= container["resources"][amounts].keys(), where


def test_a_token_is_mounted_only_where_an_api_is_called(everything: list[tuple[str, list[Manifest]]]) -> None:
    called = {"register": ["pipelines.kubeflow.org"], "test": [None]}  # audience; none: the Kubernetes API's
    for case, manifests in everything:
        accounts = {m["metadata"]["name"]: m for m in manifests if m["kind"] == "ServiceAccount"}
        assert not any(account["automountServiceAccountToken"] for account in accounts.values())
        for manifest, pod in pods(manifests):
            if manifest["kind"] in KSERVE_SETS:
                continue
            where = f"{case}: {identity(manifest)}"
            assert pod["spec"]["automountServiceAccountToken"] is False, where
            assert pod["spec"].get("serviceAccountName") in accounts or manifest["kind"] == "ClusterTrainingRuntime", (
                where
            )
            sources = [s for v in pod["spec"].get("volumes", []) for s in v.get("projected", {}).get("sources", [])]
            audiences = [s["serviceAccountToken"].get("audience") for s in sources if "serviceAccountToken" in s]
            assert audiences == called.get(pod["metadata"]["labels"]["app.kubernetes.io/component"], []), where


def test_selectors_find_pods(everything: list[tuple[str, list[Manifest]]]) -> None:
    for case, manifests in everything:
        known = labels_of_pods(manifests)
        for manifest in manifests:
            where, spec = f"{case}: {identity(manifest)}", manifest.get("spec", {})
            match manifest["kind"]:
                case "Deployment" | "StatefulSet":
                    assert selects(spec["selector"], spec["template"]["metadata"]["labels"]), where
                case "Service":
                    assert any(spec["selector"].items() <= labels.items() for labels in known), where
                case "ServiceMonitor":
                    service = next(
                        m
                        for m in manifests
                        if m["kind"] == "Service" and selects(spec["selector"], m["metadata"]["labels"])
                    )
                    assert {e["port"] for e in spec["endpoints"]} <= {p["name"] for p in service["spec"]["ports"]}, (
                        where
                    )
                case "PodDisruptionBudget" | "PodMonitor" | "NetworkPolicy":
                    for wanted in _matched(spec):
                        if "kubernetes.io/metadata.name" not in wanted:
                            assert any(wanted.items() <= labels.items() for labels in known), f"{where} {wanted}"


def test_a_network_policy_denies_by_default_and_another_allows_what_each_pod_needs(
    everything: list[tuple[str, list[Manifest]]],
) -> None:
    for case, manifests in everything:
        policies = [m["spec"] for m in manifests if m["kind"] == "NetworkPolicy"]
        if not policies:
            assert case == "nothing"
            continue
        denying = [
            p
            for p in policies
            if p["policyTypes"] == ["Ingress", "Egress"] and not p.get("ingress") and not p.get("egress")
        ]
        for manifest, pod in pods(manifests):
            labels = pod["metadata"]["labels"] | (PART_OF if manifest["kind"] == "ServingRuntime" else {})
            where = f"{case}: {identity(manifest)}"
            assert any(selects(p["podSelector"], labels) for p in denying), where
            if manifest["kind"] != "ServingRuntime" and labels.get("app.kubernetes.io/component") not in NO_NETWORK:
                named = [
                    p
                    for p in policies
                    if len(p["podSelector"]["matchLabels"]) > 1 or "nextpage/service" in p["podSelector"]["matchLabels"]
                ]
                assert any(selects(p["podSelector"], labels) for p in named), where
        for policy in policies:
            for rule in policy.get("ingress", []):
                assert rule["from"], f"{case}: {policy}"  # nobody may come from everywhere


def test_rights_are_of_the_namespace_and_named(everything: list[tuple[str, list[Manifest]]]) -> None:
    cluster_wide = {"ClusterTrainingRuntime"}  # no right: a template that TrainJobs name
    for case, manifests in everything:
        roles = {m["metadata"]["name"] for m in manifests if m["kind"] == "Role"}
        for manifest in manifests:
            where = f"{case}: {identity(manifest)}"
            assert manifest["kind"] not in ("ClusterRole", "ClusterRoleBinding"), where
            assert manifest["metadata"].get("namespace") == (None if manifest["kind"] in cluster_wide else "team"), (
                where
            )
            if manifest["kind"] == "RoleBinding":
                assert manifest["roleRef"]["kind"] == "Role", where
                assert manifest["roleRef"]["name"] in roles, where
                assert {subject["namespace"] for subject in manifest["subjects"]} == {"team"}, where
            for rule in manifest.get("rules", []) if manifest["kind"] == "Role" else []:
                assert "*" not in json.dumps(rule), where
                assert not {"secrets", "roles", "rolebindings", "pods/exec"} & set(rule["resources"]), where


def test_secrets_are_only_referred_to(everything: list[tuple[str, list[Manifest]]]) -> None:
    for case, manifests in everything:
        assert not [m for m in manifests if m["kind"] == "Secret"], case


def test_references_to_objects_of_the_chart_lead_to_them(everything: list[tuple[str, list[Manifest]]]) -> None:
    theirs = {"kube-root-ca.crt", "nextpage-checkpoints", "nextpage-records"}
    for case, manifests in everything:
        there = {(m["kind"], m["metadata"]["name"]) for m in manifests}
        for manifest, pod in pods(manifests):
            for volume in pod["spec"].get("volumes", []):
                sources = [volume, *volume.get("projected", {}).get("sources", [])]
                used = [("ConfigMap", s["configMap"]["name"]) for s in sources if "configMap" in s]
                used += [
                    ("PersistentVolumeClaim", s["persistentVolumeClaim"]["claimName"])
                    for s in sources
                    if "persistentVolumeClaim" in s
                ]
                assert {u for u in used if u[1] not in theirs} <= there, f"{case}: {identity(manifest)}"
        for manifest in manifests:
            if manifest["kind"] == "InferenceService":
                predictor = manifest["spec"]["predictor"]
                assert ("ServingRuntime", predictor["model"]["runtime"]) in there
                assert ("ServiceAccount", predictor["serviceAccountName"]) in there


def test_names_and_labels_are_short_enough_and_nothing_stands_twice(
    everything: list[tuple[str, list[Manifest]]],
) -> None:
    assert len(LONG) == 40
    for case, manifests in everything:
        identities = [(m["apiVersion"], identity(m)) for m in manifests]
        assert len(set(identities)) == len(identities), case
        for manifest in manifests:
            name = manifest["metadata"]["name"]
            # The controllers add to these: a revision's hash, the end of a predictor's or a transformer's Service.
            room = {"StatefulSet": 52, "InferenceService": 51}.get(manifest["kind"], 63)
            assert len(name) <= room, f"{case}: {name}"
            assert "." not in name or manifest["kind"] == "PipelineVersion", f"{case}: {name}"
            labels = manifest["metadata"].get("labels", {})
            assert all(re.fullmatch(r"([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?", value) for value in labels.values()), (
                case
            )
            assert labels.items() >= PART_OF.items() or manifest["kind"] == "PipelineVersion", f"{case}: {name}"


def test_presets_with_digests_use_nothing_else(rendered: dict[str, list[Manifest]]) -> None:
    for case in ("gpu", "gpu-two-arms", "airgap-cpu", "airgap-gpu"):
        images = [container["image"] for _, pod in pods(rendered[case]) for container in containers(pod)]
        assert images
        assert all(image.endswith(f"@{DIGEST}") for image in images), case
        if case.startswith("airgap"):
            assert all(image.startswith("registry.internal/") for image in images), case


def test_no_image_is_latest_or_from_a_catalogue_that_asks_for_money(
    everything: list[tuple[str, list[Manifest]]],
) -> None:
    for case, manifests in everything:
        for manifest, pod in pods(manifests):
            for container in containers(pod):
                assert re.search(r"(:[^/:@]+|@sha256:[0-9a-f]{64})$", container["image"]), (
                    f"{case}: {identity(manifest)}"
                )
                assert not re.search(r":latest$|bitnami|broadcom", container["image"]), f"{case}: {identity(manifest)}"


def test_predictors_with_gpus_run_the_image_that_has_cuda(rendered: dict[str, list[Manifest]]) -> None:
    for case, image in (("default", "nextpage/serve:"), ("gpu", "nextpage/serve-cuda@"), ("scaled", "/serve-cuda:")):
        [runtime] = [m for m in rendered[case] if m["kind"] == "ServingRuntime"]
        assert image in runtime["spec"]["containers"][0]["image"], case


@pytest.mark.parametrize(("cpu", "threads"), [("4", 4), ("500m", 1), ("1500m", 2)])
def test_a_predictor_has_a_thread_a_core_of_its_pod_and_not_of_the_node(chart: Path, cpu: str, threads: int) -> None:
    made = render(chart, Case(name="", values={"serving": {"cpu": cpu, "targetMilliseconds": 250}}))
    [runtime] = [m for m in made if m["kind"] == "ServingRuntime"]
    [container] = runtime["spec"]["containers"]
    assert {f"--threads={threads}", "--target_ms=250"} <= set(container["args"])
    assert {"name": "OMP_NUM_THREADS", "value": str(threads)} in container["env"]


def test_hooks_may_run_again_and_clean_up(everything: list[tuple[str, list[Manifest]]]) -> None:
    for case, manifests in everything:
        for manifest in manifests:
            annotations = manifest["metadata"].get("annotations", {})
            if "helm.sh/hook" in annotations:
                assert "before-hook-creation" in annotations["helm.sh/hook-delete-policy"], (
                    f"{case}: {identity(manifest)}"
                )
                assert manifest["spec"].get("activeDeadlineSeconds"), f"{case}: {identity(manifest)}"
                assert manifest["kind"] != "Job" or manifest["spec"]["ttlSecondsAfterFinished"], (
                    f"{case}: {identity(manifest)}"
                )


def test_no_sidecar_keeps_a_pod_that_ends_from_its_end(everything: list[tuple[str, list[Manifest]]]) -> None:
    ending = {
        identity(manifest): pod["metadata"]["labels"].get("sidecar.istio.io/inject")
        for _, manifests in everything
        for manifest, pod in pods(manifests)
        if manifest["kind"] in ("Job", "Pod", "ClusterTrainingRuntime")
    }
    assert {name.partition("/")[0] for name in ending} == {"Job", "Pod", "ClusterTrainingRuntime"}
    assert set(ending.values()) == {"false"}, ending


def test_claims_are_given_to_the_user_of_pipelines_and_training(rendered: dict[str, list[Manifest]]) -> None:
    for case, names in (("default", {"nextpage-checkpoints", "nextpage-records"}), ("outside", {"nextpage-records"})):
        claims = {m["metadata"]["name"] for m in rendered[case] if m["kind"] == "PersistentVolumeClaim"}
        [job] = [m for m in rendered[case] if m["kind"] == "Job" and "-claims-" in m["metadata"]["name"]]
        spec = job["spec"]["template"]["spec"]
        mounted = {v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "persistentVolumeClaim" in v}
        assert claims == mounted == names, case
        assert spec["securityContext"]["fsGroup"] == spec["securityContext"]["runAsUser"] == 65532


def test_what_must_outlive_an_uninstall_is_kept(everything: list[tuple[str, list[Manifest]]]) -> None:
    for _, manifests in everything:
        for manifest in manifests:
            kept = manifest["metadata"].get("annotations", {}).get("helm.sh/resource-policy")
            if manifest["kind"] in ("Pipeline", "PipelineVersion", "PersistentVolumeClaim"):
                assert kept == "keep", identity(manifest)
            if manifest["kind"] == "StatefulSet":
                assert manifest["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain"
