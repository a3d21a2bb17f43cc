"""The load generator: bounded, on time, and honest about what failed."""

import asyncio
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from nextpage.experiments.replay import Page, UserConfig, react
from serving.replay import ReplayConfig, Replayed, Visit, replay
from serving.rollout.processes import free_port

ITEMS = ["tea", "milk", "soap", "rice"]
USERS = UserConfig()


class Shop:
    """A server in this process: `answer` says status and body of a slate by request id; what came is kept. The first
    requests wait for each other, until so many are there `together`."""

    def __init__(self, answer: Callable[[str], tuple[int, Any]] | None = None, together: int = 1) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.fed_back: list[tuple[str | None, dict[str, Any]]] = []
        self.moments: dict[str, float] = {}
        self.most, self._under_way = 0, 0
        shop, lock, met = self, threading.Lock(), threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                arm = self.headers.get("x-nextpage-arm")
                if self.path == "/v1/feedback":
                    shop.fed_back.append((arm, body))
                    self._say(202, {})
                    return
                (asked,) = body["instances"]
                with lock:
                    shop.asked.append((asked["request_id"], arm))
                    shop.moments[asked["request_id"]] = time.monotonic()
                    shop._under_way += 1
                    shop.most = max(shop.most, shop._under_way)
                    if shop.most >= together:
                        met.set()
                met.wait(20)
                with lock:
                    shop._under_way -= 1
                self._say(*(answer or slate)(asked["request_id"]))

            def _say(self, status: int, body: Any) -> None:
                said = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def slate(request_id: str) -> tuple[int, Any]:
    return 200, {"predictions": [{"items": [{"item_id": one} for one in ITEMS], "release": {"name": "r1"}}]}


def visit(number: int, due_s: float = 0.0) -> Visit:
    page = Page(
        user_id=f"u{number % 3}",
        request_id=str(number),
        as_of=100,
        items=["tea"],
        behaviours=["ordered"],
        pages=[0],
        times=[50],
        wanted={"milk": 2.5, "rice": 1.0},
    )
    return Visit(request_id=f"r{number}", page=page, due_s=due_s)


def arm_of(user: str) -> str | None:
    return {"u0": "control", "u1": "treatment"}.get(user)


def replayed(visits: Iterator[Visit], url: str, **settings: Any) -> Replayed:
    few = {"in_flight": 4, **settings}  # as many as the stand-in's queue of connections holds
    return asyncio.run(replay(visits, url, arm_of, USERS, ReplayConfig(**few)))


@pytest.fixture
def open_shop() -> Iterator[Callable[..., Shop]]:
    shops: list[Shop] = []

    def opened(*arguments: Any, **settings: Any) -> Shop:
        shops.append(Shop(*arguments, **settings))
        return shops[-1]

    yield opened
    for shop in shops:
        shop.close()


def test_each_visit_is_one_request_and_its_feedback_bears_the_same_arm_and_request(
    open_shop: Callable[..., Shop],
) -> None:
    shop = open_shop()
    done = replayed(map(visit, range(30)), shop.url)
    assert sorted(shop.asked) == sorted((f"r{number}", arm_of(f"u{number % 3}")) for number in range(30))
    assert (done.sent, dict(done.answered), done.failed.total()) == (30, {"r1": 30}, 0)
    expected = {f"r{number}": react(f"r{number}", ITEMS, visit(number).page.wanted, USERS) for number in range(30)}
    assert {body["request_id"] for _, body in shop.fed_back} == {
        request for request, found in expected.items() if found
    }
    for arm, body in shop.fed_back:
        assert arm == arm_of(f"u{int(body['request_id'][1:]) % 3}")
        said = [(event["item_id"], event["behaviour"], event["value"]) for event in body["events"]]
        assert said == [(one.item_id, one.behaviour, one.value) for one in expected[body["request_id"]]]
    assert done.orders == sum(one.behaviour == "ordered" for found in expected.values() for one in found) > 0


def test_no_more_requests_are_under_way_than_allowed(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(together=4)
    replayed(map(visit, range(40)), shop.url, in_flight=4)
    assert shop.most == 4


def test_a_visit_waits_for_its_moment(open_shop: Callable[..., Shop]) -> None:
    shop, began = open_shop(), time.monotonic()
    replayed((visit(number, due_s=0.1 * number) for number in range(6)), shop.url)
    assert all(shop.moments[f"r{number}"] - began >= 0.1 * number for number in range(6))


def test_what_fails_is_counted_by_how_and_never_tried_again(open_shop: Callable[..., Shop]) -> None:
    faults = {"r1": (503, {}), "r2": (500, {}), "r3": (200, {"predictions": []}), "r4": (503, {})}
    shop = open_shop(lambda request: faults.get(request) or slate(request))
    done = replayed(map(visit, range(10)), shop.url)
    assert dict(done.failed) == {"HTTP 503": 2, "HTTP 500": 1, "no slate": 1}
    assert (done.sent, done.answered.total()) == (10, 6)
    assert Counter(request for request, _ in shop.asked) == {f"r{number}": 1 for number in range(10)}
    assert not {body["request_id"] for _, body in shop.fed_back} & set(faults)


def test_where_nobody_listens_every_request_fails_once() -> None:
    done = replayed(map(visit, range(12)), f"http://127.0.0.1:{free_port()}")
    assert (done.sent, dict(done.failed)) == (12, {"ConnectError": 12})


def test_an_endless_stream_ends_by_time_and_by_word(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop()
    timed = replayed((visit(number, 0.01 * number) for number in itertools.count()), shop.url, longest_s=1.0)
    assert 0 < timed.sent <= 101
    stop, counts = threading.Event(), Replayed()

    def until_ten() -> Iterator[Visit]:
        for number in itertools.count():
            if counts.answered.total() >= 10:
                stop.set()
            yield visit(number)

    asyncio.run(replay(until_ten(), shop.url, arm_of, USERS, ReplayConfig(in_flight=2), stop=stop, done=counts))
    assert 10 <= counts.sent <= 14


def test_no_other_machine_is_loaded() -> None:
    with pytest.raises(ValueError, match=r"not on 127\.0\.0\.1"):
        replayed(iter([]), "http://shop.example.com")
