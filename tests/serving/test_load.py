"""A server that is asked for more than it can do, and one that is told to end meanwhile."""

import asyncio
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pyarrow.parquet as pq
import pytest
from kserve import InferInput, InferRequest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests.serving.conftest import Server, end, start_standin
from tests.serving.slow_standin import HELD_ITEM
from tests.serving.standin import MODEL

HISTORY = {"items": ["i0001", "i0005"]}
HELD = {"items": [HELD_ITEM]}
TIMEOUT = "x-envoy-expected-rq-timeout-ms"


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = start_slow(tmp_path_factory.mktemp("events"), target_ms=300)
    yield started
    end(started)


def start_slow(events: Path, target_ms: int) -> Server:
    return start_standin(events, str(target_ms), module="tests.serving.slow_standin")


def infer(server: Server, timeout: float = 20) -> Any:
    """Over gRPC. Raises grpc.RpcError."""
    history = InferInput("history", [1], "BYTES", [b'{"items": ["i0005"]}'])
    request = InferRequest(model_name=MODEL, infer_inputs=[history]).to_grpc()
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        return GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=timeout)


def outcomes(server: Server) -> Counter[str]:
    """What the log says of requests; written when the server has ended."""
    rows = [
        row for path in (Path(server.events) / "requests").glob("*.parquet") for row in pq.read_table(path).to_pylist()
    ]
    return Counter(row["outcome"] for row in rows)


async def ask_at_once(server: Server, count: int, **headers: str) -> list[httpx.Response]:
    body = {"instances": [{"history": HISTORY}]}
    limits = httpx.Limits(max_connections=count)
    async with httpx.AsyncClient(base_url=server.url, timeout=30, limits=limits) as client:
        asked = (client.post(f"/v1/models/{MODEL}:predict", json=body, headers=headers) for _ in range(count))
        return await asyncio.gather(*asked)


def test_more_than_can_be_answered_in_time_gets_429_and_is_told_when_to_come_again(slow: Server) -> None:
    answers = asyncio.run(ask_at_once(slow, 80))
    assert set(Counter(answer.status_code for answer in answers)) == {200, 429}
    refused = [answer for answer in answers if answer.status_code == 429]
    assert "more than the 0.3 s that are promised" in refused[0].json()["error"]
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    assert slow.metric('nextpage_requests_total{outcome="overloaded"}') >= len(refused)
    assert slow.predict({"history": HISTORY}).status_code == 200  # when the queue is empty again


def test_over_grpc_the_status_is_resource_exhausted(slow: Server) -> None:
    def code(_: int) -> str:
        try:
            infer(slow)
        except grpc.RpcError as refused:
            return str(refused.code().name)
        return "OK"

    with ThreadPoolExecutor(60) as pool:
        assert set(pool.map(code, range(60))) == {"OK", "RESOURCE_EXHAUSTED"}


def test_a_caller_who_cannot_wait_is_told_so(slow: Server) -> None:
    (late,) = asyncio.run(ask_at_once(slow, 1, **{TIMEOUT: "1"}))
    assert late.status_code == 504
    (patient,) = asyncio.run(ask_at_once(slow, 1, **{TIMEOUT: "15000"}))
    assert patient.status_code == 200
    (unreadable,) = asyncio.run(ask_at_once(slow, 1, **{TIMEOUT: "soon"}))
    assert (unreadable.status_code, unreadable.json()["error"]) == (
        400,
        f"{TIMEOUT} is 'soon', a whole number of milliseconds is expected",
    )


def eventually(condition: Callable[[], bool]) -> bool:
    for _ in range(400):
        if condition():
            return True
        threading.Event().wait(0.05)
    return False


def ready(server: Server) -> int:
    return httpx.get(f"{server.url}/v2/health/ready").status_code


def test_sigterm_under_load_refuses_what_is_new_and_answers_what_came_before(tmp_path: Path) -> None:
    """One call runs, others wait behind it: while they do, readiness is gone and new calls are sent away."""
    server = start_slow(tmp_path, target_ms=0)
    with ThreadPoolExecutor(20) as pool:
        assert ready(server) == 200
        running = pool.submit(server.predict, {"history": HELD})
        assert eventually(lambda: server.metric("nextpage_inflight_requests") == 1)
        queued = [pool.submit(server.predict, {"history": HISTORY}) for _ in range(8)]
        over_grpc = pool.submit(infer, server)
        assert eventually(lambda: server.metric("nextpage_inflight_requests") == 10)
        server.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: ready(server) == 503)
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            stub = GRPCInferenceServiceStub(channel)
            assert not stub.ServerReady(messages.ServerReadyRequest()).ready
            assert not stub.ModelReady(messages.ModelReadyRequest(name=MODEL)).ready
        with pytest.raises(grpc.RpcError) as refused:
            infer(server)
        assert (refused.value.code(), refused.value.details()) == (
            grpc.StatusCode.UNAVAILABLE,
            "the server is ending: ask another",
        )
        assert server.predict({"history": HISTORY}).status_code == 503
        (tmp_path / "go").touch()
        assert [call.result().status_code for call in (running, *queued)] == [200] * 9
        over_grpc.result()
    end(server)
    assert server.process.returncode == 0
    assert outcomes(server) == {"served": 10}
