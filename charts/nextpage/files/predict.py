"""Ask every release of a service for a prediction.

`python predict.py SERVICE NAMESPACE REQUEST`, REQUEST being one request as JSON. Ends with 0 only where there is a
release and all of them answer with a slate.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import httpx

from serving.rollout.cluster import Cluster, Reference, connect
from serving.rollout.manifests import SERVICE_LABEL

Manifest = dict[str, Any]
Ask = Callable[..., httpx.Response]


def main(cluster: Cluster, service: str, namespace: str, request: Manifest, ask: Ask = httpx.post) -> int:
    kind = Reference(api_version="serving.kserve.io/v1beta1", kind="InferenceService", namespace=namespace)
    releases = cluster.list(kind, {SERVICE_LABEL: service})
    if not releases:
        print(
            f"nothing is served as {service!r} yet: run the pipeline nextpage-recommender, then its release is deployed"
        )
        return 1
    return max(answer(live, service, request, ask) for live in releases)


def answer(live: Manifest, service: str, request: Manifest, ask: Ask) -> int:
    """0 where the release answers with a slate, else 1."""
    name = live["metadata"]["name"]
    address = live.get("status", {}).get("address", {}).get("url")
    if not address:
        print(f"{name} is not ready: kubectl describe inferenceservice {name}")
        return 1
    url = f"{address}/v1/models/{service}:predict"
    try:
        said = ask(url, json={"instances": [request]}, timeout=30.0)
        slate = said.raise_for_status().json()["predictions"][0]
        items = [item["item_id"] for item in slate["items"]]
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as failure:
        print(f"{name} does not answer with a slate at {url}: {failure}")
        return 1
    if not items or len(set(items)) < len(items):
        print(f"{name} answers with an empty slate, or items that are repeated: {items}")
        return 1
    by = f"popularity, {slate['reason']}" if slate.get("degraded") else "the model"
    print(f"{name} serves release {slate['release']['name']}, by {by}: {', '.join(items)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(connect(), sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
