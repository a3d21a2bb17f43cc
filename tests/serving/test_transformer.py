"""The transformer in a process of its own, as in a cluster: Feast over HTTP before it, a predictor behind it."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from nextpage.release import FeatureService
from serving.history import require_same_features
from tests.serving.conftest import Server, end, free_port, start
from tests.serving.standin import FEATURES, MODEL


class FeastAnswers(BaseHTTPRequestHandler):
    """Answers as Feast 0.67's feature server does, for one user; another makes it fail."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert (self.path, asked["feature_service"]) == ("/get-online-features", FEATURES.name)
        user_id = asked["entities"]["user_id"][0]
        row = [["i0001", "i0005"], [2, 2], [0, 1], [100, 200]] if user_id == "u-5" else [None] * 4
        names = ["user_id", "history_item", "history_behaviour", "history_page", "history_time"]
        found = "PRESENT" if user_id == "u-5" else "NOT_FOUND"
        results = [{"values": [user_id], "statuses": ["PRESENT"], "event_timestamps": [""]}]
        results += [{"values": [value], "statuses": [found], "event_timestamps": [""]} for value in row]
        answer = json.dumps({"metadata": {"feature_names": names}, "results": results}).encode()
        self.send_response(500 if user_id == "u-broken" else 200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def feast() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), FeastAnswers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def start_transformer(
    feast: str, predictor: Server, events: Path, *, features: str = FEATURES.hash, grpc_port: int | None = None
) -> Server:
    http_port, grpc_port = free_port(), grpc_port or free_port()
    arguments = [
        *("-m", "serving", f"--model_name={MODEL}", f"--http_port={http_port}", f"--grpc_port={grpc_port}"),
        *(f"--predictor_host=127.0.0.1:{predictor.http_port}", f"--feature_server={feast}"),
        *(f"--feature_service={FEATURES.name}", f"--feature_service_hash={features}"),
        *(f"--events={events}", "--budget_ms=2000"),
    ]
    return start(arguments, http_port=http_port, grpc_port=grpc_port, events=events)


@pytest.fixture(scope="module")
def transformer(feast: str, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = start_transformer(feast, server, tmp_path_factory.mktemp("events"))
    yield started
    end(started)


def test_transformer_and_predictor_apart_answer_as_they_do_together(transformer: Server, server: Server) -> None:
    for request in (
        {"user_id": "u-5", "k": 3, "request_id": "r", "filters": {"category": ["milk"]}, "exclude": ["i0008"]},
        {"user_id": "nobody", "k": 3, "request_id": "r"},
        {"user_id": "u-broken", "k": 3, "request_id": "r", "seen": "exclude", "stock": ["i0003"]},
        {"history": {"items": ["i0009"], "times": [77]}, "as_of": 99, "request_id": "r"},
    ):
        assert transformer.slate(**request) == server.slate(**request)


def test_predictors_refusal_reaches_the_user_of_the_transformer(transformer: Server) -> None:
    answer = transformer.predict({"user_id": "u-5", "filters": {"colour": ["red"]}})
    assert answer.status_code == 400
    assert "filters.colour is no attribute of the catalogue: known are category, brand" in answer.json()["error"]
    failing = transformer.predict({"history": {"items": ["i0038"]}})
    assert failing.status_code == 503
    assert "told to fail" in failing.json()["error"]


def test_transformer_refuses_to_start_on_other_features(feast: str, server: Server, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"trained on feature service 'recommender_test' with hash f00d, .* bad"):
        start_transformer(feast, server, tmp_path, features="bad")


def test_server_does_not_start_on_a_port_that_another_has(feast: str, server: Server, tmp_path: Path) -> None:
    """Left to itself gRPC shares the port, and each server gets some of the calls."""
    with pytest.raises(RuntimeError, match=f"Failed to bind to address 127.0.0.1:{server.grpc_port}"):
        start_transformer(feast, server, tmp_path, grpc_port=server.grpc_port)


def test_release_route_tells_what_is_served(server: Server) -> None:
    assert httpx.get(f"{server.url}/v1/release").json() == {
        "name": "standin-1",
        "hash": "c0ffee",
        "feature_service": {"name": FEATURES.name, "hash": FEATURES.hash},
    }


@pytest.mark.parametrize("offered", [("other", "f00d"), ("recommender_test", "other")])
def test_other_name_or_hash_is_a_mismatch(offered: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="serve the release with the features it was made from"):
        require_same_features(FEATURES, FeatureService(name=offered[0], hash=offered[1]))
