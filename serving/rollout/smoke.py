"""One prediction, asked of a release before it is given any traffic."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from serving.rollout.driver import Probe
from serving.rollout.errors import NoAnswer, SmokeFailed

Smoke = Callable[[Probe], None]  # raises NoAnswer or SmokeFailed
NOT_YET = (404, 429, 502, 503, 504)  # what gateways and servers say while a pod comes up


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Asks for a slate and looks at it. `request` should be answered by the model: a history of known items.

    The answer names its release: readiness only says that some pod is up, and a status may be an old one.
    """

    model_name: str
    request: Mapping[str, Any]
    timeout_s: float = 10.0

    def __call__(self, probe: Probe) -> None:
        url = f"{probe.url}/v1/models/{self.model_name}:predict"
        try:
            answer = httpx.post(url, json={"instances": [dict(self.request)]}, timeout=self.timeout_s)
        except httpx.HTTPError as failure:
            raise NoAnswer(f"{url} does not answer: {failure}") from failure
        unknown_model = answer.status_code == 404 and "does not exist" in answer.text  # KServe's, not a gateway's 404
        if answer.status_code in NOT_YET and not unknown_model:
            raise NoAnswer(f"{url} answers HTTP {answer.status_code}")
        if answer.status_code != 200:
            raise SmokeFailed(f"{url} answers HTTP {answer.status_code}: {answer.text[:200]}")
        try:
            slate = answer.json()["predictions"][0]
            served, items = slate["release"], [item["item_id"] for item in slate["items"]]
        except (ValueError, LookupError, TypeError) as failure:
            raise SmokeFailed(f"{url} answers no slate: {answer.text[:200]}") from failure
        if served["hash"] != probe.release.hash:
            raise NoAnswer(f"{url} serves release {served['name']} ({served['hash'][:12]}), not {probe.release.name}")
        if not items:
            raise SmokeFailed(f"{url} answers an empty slate")
        if len(set(items)) < len(items):
            raise SmokeFailed(f"{url} answers a slate with repeated items: {', '.join(items)}")
        if slate.get("degraded"):
            raise SmokeFailed(f"{url} answers popular items instead of the model's: {slate.get('reason')}")
