"""`GET /v1/release`: what a server serves, so that a transformer elsewhere can refuse features that do not match it."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from nextpage.release import FeatureService

SECONDS_BETWEEN_TRIES = 1.0
RELEASE_ROUTE = "/v1/release"


@dataclass(frozen=True, kw_only=True)
class ServedRelease:
    """What identifies a release, and the features it was trained on."""

    name: str
    hash: str
    feature_service: FeatureService


def release_route(served: ServedRelease) -> Callable[[], Awaitable[dict[str, Any]]]:
    said = asdict(served)

    async def release() -> dict[str, Any]:
        return said

    return release


def fetch_release(predictor_host: str, patience_s: float = 120.0) -> ServedRelease:
    """The release behind `predictor_host`, waiting for the predictor to come up.

    Raises OSError where it does not within `patience_s`.
    """
    import httpx

    ends = time.monotonic() + patience_s
    while True:
        try:
            answer = httpx.get(f"http://{predictor_host}{RELEASE_ROUTE}", timeout=5.0).raise_for_status()
            said = answer.json()
            return ServedRelease(**{**said, "feature_service": FeatureService(**said["feature_service"])})
        except httpx.HTTPError as failure:
            if time.monotonic() >= ends:
                raise OSError(f"the predictor at {predictor_host} does not tell its release: {failure}") from failure
            time.sleep(SECONDS_BETWEEN_TRIES)
