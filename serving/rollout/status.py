"""What objects' status says of the spec that was last written, which is not always what it seems to."""

from collections.abc import Iterable, Mapping
from typing import Any

from serving.rollout.cluster import Reference
from serving.rollout.cluster_driver import Missing
from serving.rollout.manifests import Manifest


def conditions_missing(reference: Reference, live: Manifest | None, *kinds: str) -> Missing | None:
    """None where each of these conditions of the object is True.

    An InferenceService's `status.observedGeneration` is that of a Deployment or a Knative Service, so nothing tells
    whether a condition is about the spec as it is now: whoever asks must have another sign of that.
    """
    if live is None:
        return Missing(sentence=f"{reference} does not exist yet", seen_in=reference)
    for kind in kinds:
        found = condition(live.get("status", {}).get("conditions", []), kind)
        if found.get("status") != "True":
            said = found.get("message") or found.get("reason") or "nothing is said about it"
            return Missing(sentence=f"{reference} is not {kind}: {said}", seen_in=reference)
    return None


def route_missing(reference: Reference, live: Manifest | None) -> Missing | None:
    """None where every gateway of an HTTPRoute has taken its present generation."""
    if live is None:
        return Missing(sentence=f"{reference} does not exist yet", seen_in=reference)
    parents = live.get("status", {}).get("parents", [])
    if not parents:
        return Missing(sentence=f"{reference}: no gateway has taken it up", seen_in=reference)
    for parent in parents:
        for kind in ("Accepted", "ResolvedRefs"):
            found = condition(parent["conditions"], kind)
            current = found.get("observedGeneration", 0) >= live["metadata"]["generation"]
            if found.get("status") != "True" or not current:
                said = found.get("message") if current and found.get("message") else "the gateway is not there yet"
                return Missing(sentence=f"{reference} is not {kind}: {said}", seen_in=reference)
    return None


def condition(conditions: Iterable[Mapping[str, Any]], kind: str) -> Mapping[str, Any]:
    """The condition of that type; an empty one where it is absent."""
    return next((entry for entry in conditions if entry["type"] == kind), {})


def available_missing(reference: Reference, live: Manifest | None, replicas: int) -> Missing | None:
    """None where the Deployment has that many pods which take requests."""
    available = (live or {}).get("status", {}).get("availableReplicas", 0)
    if available >= replicas:
        return None
    return Missing(sentence=f"{reference} has {available} of {replicas} pods available", seen_in=reference)
