import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from serving.rollout.driver import Probe
from serving.rollout.errors import NoAnswer, SmokeFailed
from serving.rollout.smoke import Prediction
from tests.serving.rollout.conftest import a_release

SMOKE = Prediction(model_name="shop", request={"history": {"items": ["tea"]}, "k": 2}, timeout_s=2.0)


@contextmanager
def serving(code: int, answer: Any) -> Iterator[Probe]:
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield Probe(release=a_release("r2"), url=f"http://127.0.0.1:{http.server_address[1]}")
    finally:
        http.shutdown()
        http.server_close()
    assert asked == [("/v1/models/shop:predict", {"instances": [{"history": {"items": ["tea"]}, "k": 2}]})]


def slate(*items: str, release: str = "r2", **changed: Any) -> dict[str, Any]:
    made = {"items": [{"item_id": item} for item in items], "release": {"name": release, "hash": f"hash-{release}"}}
    return {"predictions": [{**made, "degraded": False, "reason": None, **changed}]}


def test_a_good_slate_of_the_right_release_passes() -> None:
    with serving(200, slate("milk", "bread")) as probe:
        SMOKE(probe)


@pytest.mark.parametrize(
    ("code", "answer", "said"),
    [
        (200, slate(), "an empty slate"),
        (200, slate("milk", "milk"), "repeated items: milk, milk"),
        (
            200,
            slate("milk", degraded=True, reason="unknown_items"),
            "popular items instead of the model's: unknown_items",
        ),
        (200, {"predictions": []}, "no slate"),
        (200, b"<html>", "no slate"),
        (500, {"error": "CUDA out of memory"}, "HTTP 500: .*CUDA out of memory"),
        (400, {"error": "instances is empty"}, "HTTP 400"),
        (404, {"error": "Model with name shop does not exist."}, "HTTP 404"),
    ],
)
def test_a_bad_answer_fails(code: int, answer: Any, said: str) -> None:
    with serving(code, answer) as probe, pytest.raises(SmokeFailed, match=said):
        SMOKE(probe)


@pytest.mark.parametrize("code", [404, 503])
def test_a_pod_that_comes_up_is_asked_again_later(code: int) -> None:
    with serving(code, {}) as probe, pytest.raises(NoAnswer, match=f"HTTP {code}"):
        SMOKE(probe)


def test_an_answer_of_another_release_is_none() -> None:
    with (
        serving(200, slate("milk", release="r1")) as probe,
        pytest.raises(NoAnswer, match=r"serves release r1 .*, not r2"),
    ):
        SMOKE(probe)


def test_nobody_at_the_address_is_no_answer() -> None:
    with pytest.raises(NoAnswer, match="does not answer"):
        SMOKE(Probe(release=a_release("r2"), url="http://127.0.0.1:9"))
