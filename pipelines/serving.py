"""A release and its features folder at work on one machine: what `nextpage serve` and `recommend` call."""

import json
from pathlib import Path
from typing import Any

from feature_repo.online import OnlineFeatures
from nextpage.release import FeatureService, read_manifest
from serving.history import InProcessHistory, history_of


def serve_locally(release: Path, features: Path, port: int, catalogue: Path | None = None) -> None:
    """Serve on 127.0.0.1 until interrupted; exposures and feedback go to `events/` beside the release."""
    from serving.server import ServerConfig, serve

    online = _online(release, features)
    service = FeatureService(name=read_manifest(release).feature_service.name, hash=online.service_hash)
    config = ServerConfig(http_port=port, grpc_port=port + 1, events=release.parent / "events", catalogue=catalogue)
    serve(release, config, InProcessHistory(online.history, service))


def recommend_for(release: Path, features: Path, user: str, k: int) -> dict[str, Any]:
    """The answer that the server gives for a known user, as of the end of the log."""
    from nextpage.recommender import load_recommender
    from serving.schema import SlateRequest, slate_to_json
    from serving.slates import SlateMaker

    found = _online(release, features).history(user)
    if found is None:
        raise ValueError(f"user {user!r} is not in the feature store {features}")
    as_of = json.loads((features / "features.json").read_text())["log_end"]
    request = SlateRequest(request_id="cli", as_of=as_of, user_id=user, history=history_of(found), k=k)
    return slate_to_json(SlateMaker(load_recommender(release)).slates([request])[0])


def _online(release: Path, features: Path) -> OnlineFeatures:
    """The online store, refused where its features are not those that the release was trained on."""
    version = json.loads((features / "features.json").read_text())["version"]
    return OnlineFeatures(features, version=version, expected_hash=read_manifest(release).feature_service.hash)
