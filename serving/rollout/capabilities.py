"""What the cluster has, and which strategy that allows."""

import re
from dataclasses import dataclass

from serving.rollout.cluster import ApiError, Cluster
from serving.rollout.driver import STRATEGIES
from serving.rollout.errors import RolloutRefused

KSERVE = "serving.kserve.io/v1beta1"
GATEWAY = "gateway.networking.k8s.io/v1"
KNATIVE = "serving.knative.dev/v1"
CANARY_SINCE = (0, 21)
CONTROLLER = "/apis/apps/v1/namespaces/{namespace}/deployments/kserve-controller-manager"


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    apis: frozenset[str]  # group/version
    kserve: tuple[int, int] | None = None  # None where it cannot be told


def discover(cluster: Cluster, *, kserve_version: str = "", kserve_namespace: str = "kserve") -> Capabilities:
    """Read the API groups. KServe's version, if not given, is that of its controller's image."""
    groups = (cluster.read("/apis") or {}).get("groups", [])
    if not kserve_version:
        try:
            controller = cluster.read(CONTROLLER.format(namespace=kserve_namespace)) or {}
        except ApiError:  # a role in our own namespace alone is the usual case
            controller = {}
        pods = controller.get("spec", {}).get("template", {}).get("spec", {})
        images = [container["image"] for container in pods.get("containers", []) if "kserve" in container["image"]]
        kserve_version = images[0] if images else ""
    found = re.search(r"v?(\d+)\.(\d+)\.\d+[^/@]*(?:@.*)?$", kserve_version)
    return Capabilities(
        apis=frozenset(version["groupVersion"] for group in groups for version in group["versions"]),
        kserve=(int(found[1]), int(found[2])) if found else None,
    )


def refusal(strategy: str, capabilities: Capabilities, *, transformer: bool, experiment: bool) -> str | None:
    """Why the strategy must not be used here, as a sentence; None where it may be."""
    if strategy not in STRATEGIES:
        return f"strategy {strategy!r} is unknown: use one of {', '.join(STRATEGIES)}"
    needed = {"httproute": GATEWAY, "standard-canary": GATEWAY, "knative": KNATIVE}[strategy]
    for api in (KSERVE, needed):
        if api not in capabilities.apis:
            return f"{strategy!r} needs the API {api}, which the cluster does not serve"
    if strategy == "httproute":
        return None
    if experiment:
        return f"{strategy!r} draws an arm for every request, so users stay in none: an A/B test needs 'httproute'"
    if transformer:
        return {
            "standard-canary": "'standard-canary' leaves the transformer out of the canary",
            "knative": "'knative' splits transformer and predictor apart, and pairs those of different releases",
        }[strategy]
    if strategy == "standard-canary":
        if capabilities.kserve is None:
            return "'standard-canary' needs KServe 0.21, and the version here cannot be told: say which it is"
        if capabilities.kserve < CANARY_SINCE:
            return f"'standard-canary' needs KServe 0.21, here is {capabilities.kserve[0]}.{capabilities.kserve[1]}"
    return None


def choose(capabilities: Capabilities, *, transformer: bool, experiment: bool = True, strategy: str = "auto") -> str:
    """The strategy asked for, or the best that the cluster allows. Raises RolloutRefused with the reasons."""
    asked = STRATEGIES if strategy == "auto" else (strategy,)
    reasons = []
    for name in asked:
        reason = refusal(name, capabilities, transformer=transformer, experiment=experiment)
        if reason is None:
            return name
        reasons.append(reason)
    raise RolloutRefused("; ".join(reasons))
