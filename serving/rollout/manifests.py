"""Kubernetes objects as plain dicts, made of a release and nothing else."""

from collections.abc import Mapping, Sequence
from typing import Any

from serving.rollout.errors import RolloutRefused
from serving.rollout.release import LABEL, LONGEST_NAME, Pods, Release, Transformer

Manifest = dict[str, Any]

SERVICE_LABEL = "nextpage/service"
RELEASE_LABEL = "nextpage/release"
MODEL_FORMAT = {"name": "nextpage", "version": "1"}
CONTAINER = "kserve-container"  # the only name KServe takes
RESTRICTED = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def inference_service(
    name: str,
    namespace: str,
    *,
    service: str,
    mode: str,
    autoscaler: str,
    spec: Mapping[str, Any],
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Manifest:
    """An InferenceService. `mode` is Standard or Knative, `autoscaler` none, hpa or keda (Standard only).

    KServe copies labels and annotations into the pods: what is given here must never change while they run.
    """
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/part-of": "nextpage", SERVICE_LABEL: service, **(labels or {})},
            "annotations": {
                "serving.kserve.io/deploymentMode": mode,
                **({"serving.kserve.io/autoscalerClass": autoscaler} if mode == "Standard" else {}),
                **(annotations or {}),
            },
        },
        "spec": dict(spec),
    }


def predictor(release: Release, service: str) -> Manifest:
    """`spec.predictor` of a release, but for its replicas. All releases answer under one model name, the service's."""
    return {
        **_account(release.pods),
        "model": {
            "runtime": release.runtime,
            "modelFormat": dict(MODEL_FORMAT),
            "protocolVersion": "v2",
            "storageUri": release.storage_uri,
            "args": [f"--model_name={service}"],  # comes after the runtime's own and so overrides it
            "resources": _resources(release.pods),
        },
    }


def transformer(part: Transformer, service: str) -> Manifest:
    """`spec.transformer`: KServe adds the predictor's address and the port to its arguments."""
    return {
        "minReplicas": part.pods.replicas,
        **_account(part.pods),
        "containers": [
            {
                "name": CONTAINER,
                "image": part.image,
                "args": [
                    f"--model_name={service}",
                    "--host=0.0.0.0",
                    f"--feature_server={part.feature_server}",
                    f"--feature_service={part.feature_service}",
                    f"--feature_service_hash={part.feature_service_hash}",
                    *part.args,
                ],
                "resources": _resources(part.pods),
                "securityContext": dict(RESTRICTED),
            }
        ],
    }


def backend(service_name: str, weight: int | None = None) -> Manifest:
    """A Service as one backend of a route's rule."""
    reference: Manifest = {"group": "", "kind": "Service", "name": service_name, "port": 80}
    return reference if weight is None else {**reference, "weight": weight}


def exact_header(name: str, value: str) -> Manifest:
    return {"headers": [{"type": "Exact", "name": name, "value": value}]}


def http_route(
    name: str,
    namespace: str,
    *,
    service: str,
    gateway: tuple[str, str],
    hostnames: Sequence[str],
    rules: Sequence[Manifest],
    annotations: Mapping[str, str],
) -> Manifest:
    """An HTTPRoute on `gateway`, a namespace and a name."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/part-of": "nextpage", SERVICE_LABEL: service},
            "annotations": dict(annotations),
        },
        "spec": {
            "parentRefs": [
                {
                    "group": "gateway.networking.k8s.io",
                    "kind": "Gateway",
                    "namespace": gateway[0],
                    "name": gateway[1],
                }
            ],
            "hostnames": list(hostnames),
            "rules": list(rules),
        },
    }


def checked_name(name: str) -> str:
    """A name that a Service may bear."""
    if len(name) > LONGEST_NAME or not LABEL.fullmatch(name):
        raise RolloutRefused(
            f"a Service cannot be named {name!r}: {LONGEST_NAME} lower-case letters, digits and '-' at most; "
            "shorten the name of the service or of the release"
        )
    return name


def _resources(pods: Pods) -> Manifest:
    """Requests are limits: the pods of a server that must answer in time do not share."""
    amounts = {"cpu": pods.cpu, "memory": pods.memory}
    if pods.gpus:
        amounts["nvidia.com/gpu"] = str(pods.gpus)
    return {"requests": dict(amounts), "limits": dict(amounts)}


def _account(pods: Pods) -> Manifest:
    return {"serviceAccountName": pods.service_account} if pods.service_account else {}
