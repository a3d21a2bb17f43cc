"""What a real server logs of real calls, as the gate reads it; also while Redis dies under it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from kserve import InferInput, InferRequest
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from serving.attribution import Attribution, attribute, evidence
from serving.sinks import drain
from tests.serving.conftest import Server, end, start_standin
from tests.serving.redis_server import RedisServer, redis_server
from tests.serving.standin import BROKEN_ITEM, FAULTY_ITEM, MODEL
from tests.serving.test_server import eventually, ids

__all__ = ["redis_server"]
HOUR = timedelta(hours=1)


def attributed(server: Server) -> Attribution:
    return attribute(Path(server.events), window=HOUR)


def of(table: Any, request_id: str) -> list[dict[str, Any]]:
    return [row for row in table.to_pylist() if row["request_id"] == request_id]


def written(server: Server, kind: str, fate: str = "written") -> float:
    return server.metric(f'nextpage_events_total{{fate="{fate}",kind="{kind}"}}')


def test_calls_with_an_arm_and_their_feedback_become_evidence(server: Server) -> None:
    began = datetime.now(UTC)
    before = written(server, "requests")
    arm = {"x-nextpage-arm": "treatment"}
    assert server.predict({"user_id": "u-7", "request_id": "good", "k": 2}, **arm).status_code == 200
    assert server.predict({"user_id": "nobody", "request_id": "popular", "k": 1}, **arm).status_code == 200
    broken = {"user_id": "u-7", "request_id": "bad", "history": {"items": [BROKEN_ITEM]}}
    assert server.predict(broken, **arm).status_code == 500
    assert (
        server.predict({"user_id": "u-7", "request_id": "refused", "filters": {"x": ["y"]}}, **arm).status_code == 400
    )
    faulty = {"user_id": "u-9", "request_id": "invalid", "history": {"items": [FAULTY_ITEM]}, "k": 5}
    assert server.predict(faulty, **arm).json()["predictions"][0]["invalid_items"] == 2
    assert server.predict({"user_id": "u-7", "request_id": "no arm", "k": 1}).status_code == 200
    said = {"request_id": "good", "events": [{"item_id": "i0009", "behaviour": "ordered", "value": 3.5}]}
    assert httpx.post(f"{server.url}/v1/feedback", json=said).json()["accepted"] == 1
    assert eventually(lambda: written(server, "requests") == before + 6)
    assert eventually(lambda: any(row["ordered"] for row in of(attributed(server).exposures, "good")))
    found = attributed(server)

    first, second = of(found.exposures, "good")
    assert (first["item_id"], first["propensity"], second["propensity"]) == ("i0008", 1.0, pytest.approx(0.60653066))
    assert (first["clicked"], second["clicked"], second["ordered"], second["value"]) == (False, True, True, 3.5)
    assert [row["propensity"] for row in of(found.exposures, "popular")] == [None]
    assert {(row["arm"], row["release_name"], row["release_hash"]) for row in (first, second)} == {
        ("treatment", "standin-1", "c0ffee")
    }
    assert [row["arm"] for row in of(found.exposures, "no arm")] == [None]
    outcomes = {"good": "served", "popular": "fallback", "bad": "failed", "refused": "failed", "no arm": "served"}
    for request_id, outcome in (outcomes | {"invalid": "served"}).items():
        (row,) = of(found.requests, request_id)
        assert (row["outcome"], row["release_hash"]) == (outcome, "c0ffee")
        assert row["invalid_items"] == (None if outcome == "failed" else 2 * (request_id == "invalid"))
        assert 0 < row["latency_ms"] < 20_000

    popularity = {"i0008": 1.0, "i0039": 1.0}
    rows = evidence(found, began=began, day=HOUR, slow_ms=1e9, popularity=popularity, users=None).to_pylist()
    ours = {row["user_id"]: row for row in rows if row["arm"] == "treatment"}
    assert {name: ours["u-7"][name] for name in ("requests", "errors", "exposures", "clicks", "orders", "value")} == {
        "requests": 3,
        "errors": 2,
        "exposures": 2,
        "clicks": 1,
        "orders": 1,
        "value": 3.5,
    }
    assert (ours["u-7"]["invalid_items"], ours["nobody"]["fallbacks"]) == (1, 1)
    assert ours["u-9"]["invalid_items"] == 2 + ours["u-9"]["exposures"] - 1  # one of those shown is known


def test_arm_comes_as_grpc_metadata_too(server: Server) -> None:
    user = InferInput("user_id", [1], "BYTES", [b"u-5"])
    call = InferRequest(model_name=MODEL, infer_inputs=[user], request_id="grpc arm").to_grpc()
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        GRPCInferenceServiceStub(channel).ModelInfer(call, timeout=20, metadata=[("x-nextpage-arm", "control")])
    assert eventually(lambda: [row["arm"] for row in of(attributed(server).requests, "grpc arm")] == ["control"])


def test_arm_that_is_no_name_is_refused(server: Server) -> None:
    answer = server.predict({"user_id": "u-5"}, **{"x-nextpage-arm": "x" * 65})
    assert (answer.status_code, answer.json()) == (
        400,
        {"error": "x-nextpage-arm has 65 characters, 1 to 64 are taken"},
    )


def test_redis_that_is_killed_costs_no_answer_and_no_row_that_it_accepted(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    server = start_standin(redis_server.url)

    def ask(name: str, times: int = 5) -> None:
        for number in range(times):
            slate = server.slate(user_id="u-5", k=2, request_id=f"{name} {number}")
            assert (ids(slate), slate["degraded"]) == (["i0006", "i0007"], False)

    try:
        ask("before")
        assert eventually(lambda: written(server, "exposures") == 10)
        redis_server.kill()
        ask("while it is down")
        assert eventually(lambda: written(server, "exposures", "dropped") + written(server, "requests", "dropped") > 0)
        redis_server.start()
        ask("after")
        assert eventually(lambda: written(server, "exposures") >= 20)
        accepted = written(server, "exposures")
    finally:
        end(server)
    drain(redis_server.url, tmp_path / "log")
    found = attribute(tmp_path / "log", window=HOUR).exposures
    shown = {row["request_id"] for row in found.to_pylist()}
    assert {f"{name} {number}" for name in ("before", "after") for number in range(5)} <= shown
    assert found.num_rows >= accepted


def test_server_that_is_killed_keeps_what_its_log_has_written(tmp_path: Path) -> None:
    server = start_standin(tmp_path)
    try:
        for number in range(5):
            server.slate(user_id="u-5", k=2, request_id=str(number))
        assert eventually(lambda: written(server, "exposures") == 10)
        server.slate(user_id="u-5", k=2, request_id="perhaps")
    finally:
        server.process.kill()
        server.process.communicate()
    shown = {row["request_id"] for row in attribute(tmp_path, window=HOUR).exposures.to_pylist()}
    assert shown - {"perhaps"} == {str(number) for number in range(5)}
