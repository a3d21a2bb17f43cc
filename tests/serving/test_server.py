"""A real server in a process of its own, over a stand-in release (see standin.py)."""

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pyarrow.parquet as pq
import pytest
from kserve import InferInput, InferRequest, InferResponse
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests.serving.conftest import Server, end, start_standin
from tests.serving.standin import BROKEN_ITEM, FAULTY_ITEM, ITEMS, MODEL, SLOW_ITEM, SLOW_S


def ids(slate: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in slate["items"]]


def eventually(condition: Callable[[], bool]) -> bool:
    for _ in range(100):
        if condition():
            return True
        time.sleep(0.05)
    return False


def logged(server: Server, kind: str) -> list[dict[str, Any]]:
    return [row for path in (Path(server.events) / kind).glob("*.parquet") for row in pq.read_table(path).to_pylist()]


def infer(server: Server, *inputs: InferInput) -> InferResponse:
    """One v2 call over gRPC. Raises grpc.RpcError."""
    request = InferRequest(model_name=MODEL, infer_inputs=list(inputs), request_id="over-grpc").to_grpc()
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        return InferResponse.from_grpc(GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=20))


# Answers


def test_known_user_gets_the_models_items_with_release_and_request_id(server: Server) -> None:
    slate = server.slate(user_id="u-5", k=3, request_id="mine")
    assert slate == {
        "request_id": "mine",
        "items": [
            {"item_id": "i0006", "score": 0.0, "position": 0, "text": "tea kind 1"},
            {"item_id": "i0007", "score": -0.5, "position": 1, "text": "soap kind 1"},
            {"item_id": "i0008", "score": -1.0, "position": 2, "text": "milk kind 2"},
        ],
        "release": {"name": "standin-1", "hash": "c0ffee"},
        "degraded": False,
        "reason": None,
        "invalid_items": 0,
    }


def test_explicit_history_is_used_instead_of_the_users(server: Server) -> None:
    history = {"items": ["i0001", "i0020"], "behaviours": ["clicked", "ordered"], "times": [100, 200]}
    assert ids(server.slate(user_id="u-5", history=history, k=2)) == ["i0021", "i0022"]


def test_history_ends_before_as_of(server: Server) -> None:
    """User u-5 ordered i0001 at 1.6e9 and i0005 at 1.7e9."""
    assert ids(server.slate(user_id="u-5", as_of=1_700_000_000, k=1)) == ["i0002"]
    assert ids(server.slate(user_id="u-5", as_of=1_700_000_001, k=1)) == ["i0006"]


def test_ten_items_are_given_where_k_is_absent_and_ids_are_generated(server: Server) -> None:
    first, second = server.slate(user_id="u-5"), server.slate(user_id="u-5")
    assert len(first["items"]) == 10
    assert first["request_id"] != second["request_id"]


def test_header_names_a_lone_request_and_batches_keep_their_order(server: Server) -> None:
    lone = server.predict({"user_id": "u-5"}, **{"x-request-id": "from-header"}).json()["predictions"]
    assert [slate["request_id"] for slate in lone] == ["from-header"]
    both = server.predict({"user_id": "u-5", "k": 1}, {"user_id": "u-9", "k": 1}).json()["predictions"]
    assert [ids(slate) for slate in both] == [["i0006"], ["i0010"]]


def test_filters_stock_exclusions_and_seen_compose(server: Server) -> None:
    assert ids(server.slate(user_id="u-5", k=3, filters={"category": ["milk"]})) == ["i0008", "i0012", "i0016"]
    both = {"category": ["milk", "tea"], "brand": ["brand 0"]}
    assert ids(server.slate(user_id="u-5", k=3, filters=both)) == ["i0006", "i0012", "i0018"]
    assert ids(server.slate(user_id="u-5", k=2, filters=both, exclude=["i0006", "gone"])) == ["i0012", "i0018"]
    assert ids(server.slate(user_id="u-5", stock=["i0003", "i0004", "i0007", "gone"])) == [
        "i0007",
        "i0003",
        "i0004",
    ]
    everything = server.slate(user_id="u-5", k=ITEMS)
    assert {"i0001", "i0005"} < set(ids(everything))
    assert len(everything["items"]) == ITEMS
    unseen = server.slate(user_id="u-5", k=ITEMS, seen="exclude")
    assert set(ids(everything)) - set(ids(unseen)) == {"i0001", "i0005"}


def test_filter_that_nothing_passes_gives_an_empty_slate(server: Server) -> None:
    slate = server.slate(user_id="u-5", filters={"category": ["steel"]})
    assert slate["items"] == []
    assert not slate["degraded"]


# Degraded answers


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"user_id": "u-broken"}, "feature_store_unavailable"),
        ({"user_id": "u-slow"}, "feature_store_timeout"),
        ({"user_id": "nobody"}, "unknown_user"),
        ({"user_id": "u-empty"}, "no_history"),
        ({"user_id": "u-5", "as_of": 1000}, "no_history"),
        ({"history": {"items": []}}, "no_history"),
        ({"history": {"items": ["gone"]}}, "unknown_items"),
    ],
)
def test_request_without_a_readable_history_gets_popularity_that_obeys_the_filters(
    server: Server, request_: dict[str, Any], reason: str
) -> None:
    counter = f'nextpage_degraded_total{{reason="{reason}"}}'
    server.slate(**request_)
    before = server.metric(counter)
    slate = server.slate(**request_, k=3, filters={"category": ["milk"]}, exclude=["i0036"])
    assert (slate["degraded"], slate["reason"]) == (True, reason)
    assert ids(slate) == ["i0032", "i0028", "i0024"]
    assert server.metric(counter) == before + 1


def test_failing_model_is_an_error_of_its_own_request_only(server: Server) -> None:
    answers: dict[str, int] = {}

    def ask(last: str) -> None:
        answers[last] = server.predict({"history": {"items": ["i0001", last]}}).status_code

    calls = [threading.Thread(target=ask, args=(last,)) for last in (BROKEN_ITEM, "i0002", "i0003", "i0004")]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert answers == {BROKEN_ITEM: 500, "i0002": 200, "i0003": 200, "i0004": 200}


def test_items_that_break_the_searchs_promise_are_counted_and_left_out(server: Server) -> None:
    before = server.metric("nextpage_invalid_items_total")
    slate = server.slate(history={"items": [FAULTY_ITEM]}, k=5)
    assert ids(slate) == ["i0038", "i0039", "i0000"]
    assert server.metric("nextpage_invalid_items_total") == before + 2


# Bad requests

BAD: list[tuple[object, str]] = [
    ({}, "user_id and history are both absent"),
    ([], "the request is [], an object is expected"),
    ({"user_id": 5}, "user_id is 5, a string is expected"),
    ({"user_id": ""}, "user_id has 0 characters, 1 to 128"),
    ({"user_id": "u" * 129}, "user_id has 129 characters, 1 to 128"),
    ({"user_id": "u", "kk": 3}, "unknown field 'kk': known are user_id, history"),
    ({"user_id": "u", "k": 0}, "k is 0, outside 1 to 200"),
    ({"user_id": "u", "k": 201}, "k is 201, outside 1 to 200"),
    ({"user_id": "u", "k": 2.5}, "k is 2.5, a whole number from 1 to 200"),
    ({"user_id": "u", "k": True}, "k is True, a whole number"),
    ({"user_id": "u", "k": "10"}, "k is '10', a whole number"),
    ({"user_id": "u", "k": None}, "k is absent, a whole number"),
    ({"user_id": "u", "as_of": -1}, "as_of is -1, outside 0 to"),
    ({"user_id": "u", "as_of": 1_700_000_000_000}, "as_of is 1700000000000, outside 0 to"),
    ({"user_id": "u", "as_of": "2024-01-01"}, "as_of is '2024-01-01', a whole number"),
    ({"user_id": "u", "exclude": "i0001"}, "exclude is 'i0001', a list is expected"),
    ({"user_id": "u", "exclude": ["i"] * 1001}, "exclude has 1001 entries, 0 to 1000"),
    ({"user_id": "u", "exclude": [1]}, "exclude[0] is 1, a string is expected"),
    ({"user_id": "u", "seen": "hide"}, "seen is 'hide': use one of include, exclude"),
    ({"user_id": "u", "seen": ["include"]}, "seen is ['include']: use one of"),
    ({"user_id": "u", "filters": ["milk"]}, "filters is ['milk'], an object is expected"),
    ({"user_id": "u", "filters": {"colour": ["red"]}}, "filters.colour is no attribute of the catalogue: known are"),
    ({"user_id": "u", "filters": {"colour": ["red"]}}, "category, brand"),
    ({"user_id": "u", "filters": {"category": "milk"}}, "filters.category is 'milk', a list is expected"),
    ({"user_id": "u", "filters": {"category": []}}, "filters.category has 0 entries, 1 to 100"),
    ({"user_id": "u", "filters": {str(n): ["x"] for n in range(9)}}, "filters names 9 attributes, at most 8"),
    ({"user_id": "u", "filters": False}, "filters is False, an object is expected"),
    ({"user_id": "u", "exclude": 0}, "exclude is 0, a list is expected"),
    ({"user_id": "u", "request_id": ""}, "request_id has 0 characters, 1 to 128"),
    ({"user_id": "u", "stock": {"i": 1}}, "stock is {'i': 1}, a list is expected"),
    ({"user_id": "u", "request_id": "r" * 129}, "request_id has 129 characters"),
    ({"user_id": "u", "fallback": "why not"}, "fallback is 'why not': use one of no_history"),
    ({"history": ["i0001"]}, "history is ['i0001'], an object is expected"),
    ({"history": {}}, "history.items is absent, a list is expected"),
    ({"history": {"items": ["i"] * 4097}}, "history.items has 4097 entries, 0 to 4096"),
    ({"history": {"items": ["i0001"], "when": [1]}}, "history has the unknown field 'when'"),
    ({"history": {"items": ["i0001"], "behaviours": ["bought"]}}, "history.behaviours[0] is 'bought': use one of"),
    ({"history": {"items": ["a", "b"], "behaviours": ["clicked"]}}, "history.behaviours has 1 values"),
    ({"history": {"items": ["a", "b"], "times": [5]}}, "history.times has 1 values, history.items has 2"),
    ({"history": {"items": ["a", "b"], "times": [9, 5]}}, "history.times[1] is 5, before the 9"),
    ({"history": {"items": ["a"], "times": [9]}, "as_of": 9}, "history.times[0] is 9, outside 0 to 8"),
    ({"history": {"items": ["a"], "times": [-3]}}, "history.times[0] is -3, outside 0 to"),
    ({"history": {"items": ["a", "b"], "pages": [1, 0]}}, "history.pages[1] is 0, before the 1"),
]


@pytest.mark.parametrize(("instance", "sentence"), BAD)
def test_bad_request_gets_400_with_field_value_and_bound(server: Server, instance: object, sentence: str) -> None:
    answer = server.predict(instance)
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]


def test_bad_request_in_a_batch_is_named_by_its_place(server: Server) -> None:
    answer = server.predict({"user_id": "u-5"}, {"user_id": "u-5", "k": 0})
    assert (answer.status_code, answer.json()) == (400, {"error": "instances[1].k is 0, outside 1 to 200"})


@pytest.mark.parametrize(
    ("content", "status", "sentence"),
    [
        (b"{", 400, "unexpected end of data"),
        (b'{"instances": []}', 400, "instances has 0 entries, 1 to 64"),
        (b'{"rows": []}', 400, "instances is absent"),
        (b"[]", 400, "the body is [], an object is expected"),
        (b'{"instances": ["' + b"x" * 5_000_000 + b'"]}', 413, "larger than the 4000000 bytes"),
    ],
)
def test_bad_body_is_refused(server: Server, content: bytes, status: int, sentence: str) -> None:
    answer = httpx.post(f"{server.url}/v1/models/{MODEL}:predict", content=content)
    assert answer.status_code == status
    assert sentence in answer.json()["error"]


def test_long_body_of_no_stated_length_is_refused(server: Server) -> None:
    answer = httpx.post(f"{server.url}/v1/models/{MODEL}:predict", content=iter([b" " * 500_000] * 10))
    assert answer.status_code == 413


def test_unknown_model_is_not_found_and_the_release_cannot_be_unloaded(server: Server) -> None:
    assert httpx.post(f"{server.url}/v1/models/other:predict", json={"instances": []}).status_code == 404
    for verb in ("load", "unload"):
        refused = httpx.post(f"{server.url}/v2/repository/models/{MODEL}/{verb}")
        assert refused.status_code == 501
    assert server.predict({"user_id": "u-5"}).status_code == 200


# v2


def test_v2_over_rest_answers_as_v1(server: Server) -> None:
    inputs = [
        {"name": "user_id", "datatype": "BYTES", "shape": [2], "data": ["u-5", "nobody"]},
        {"name": "k", "datatype": "INT64", "shape": [2], "data": [3, 1]},
        {"name": "filters", "datatype": "BYTES", "shape": [2], "data": ['{"category": ["milk"]}', ""]},
    ]
    answer = httpx.post(f"{server.url}/v2/models/{MODEL}/infer", json={"inputs": inputs})
    assert answer.status_code == 200, answer.text
    said = answer.json()
    outputs = {output["name"]: output["data"] for output in said["outputs"]}
    assert outputs["item_id"] == ["i0008", "i0012", "i0016", "i0039", "", ""]
    assert outputs["count"] == [3, 1]
    assert outputs["degraded"] == [False, True]
    assert outputs["reason"] == ["", "unknown_user"]
    assert said["parameters"] == {"release_name": "standin-1", "release_hash": "c0ffee"}


def test_v2_over_grpc_answers_as_v1(server: Server) -> None:
    user, k = InferInput("user_id", [1], "BYTES", [b"u-5"]), InferInput("k", [1], "INT64", [3])
    answer = infer(server, user, k)
    assert answer.get_output_by_name("item_id").data == [b"i0006", b"i0007", b"i0008"]
    assert answer.get_output_by_name("score").data == [0.0, -0.5, -1.0]
    assert answer.get_output_by_name("request_id").data == [b"over-grpc"]


def test_v2_gives_an_empty_slate_over_both(server: Server) -> None:
    filters = '{"category": ["steel"]}'
    answer = infer(
        server, InferInput("user_id", [1], "BYTES", [b"u-5"]), InferInput("filters", [1], "BYTES", [filters.encode()])
    )
    assert answer.get_output_by_name("item_id").shape == [1, 0]
    inputs = [
        {"name": "user_id", "datatype": "BYTES", "shape": [1], "data": ["u-5"]},
        {"name": "filters", "datatype": "BYTES", "shape": [1], "data": [filters]},
    ]
    outputs = httpx.post(f"{server.url}/v2/models/{MODEL}/infer", json={"inputs": inputs}).json()["outputs"]
    assert (outputs[0]["name"], outputs[0]["data"], outputs[0]["shape"]) == ("item_id", [], [1, 0])


@pytest.mark.parametrize(
    ("name", "datatype", "data", "sentence"),
    [
        ("k", "INT64", [0], "k is 0, outside 1 to 200"),
        ("k", "FP32", [3.0], "the input 'k' is FP32, INT64 or INT32 is expected"),
        ("kk", "INT64", [3], "the input 'kk' is unknown: known are user_id"),
        ("exclude", "BYTES", [b"i0001"], "the input 'exclude' is not JSON"),
        ("exclude", "BYTES", [b"[]", b"[]"], "inputs have the lengths {'user_id': 1, 'exclude': 2}"),
    ],
)
def test_bad_tensors_are_refused_over_both(
    server: Server, name: str, datatype: str, data: list[Any], sentence: str
) -> None:
    user = InferInput("user_id", [1], "BYTES", [b"u-5"])
    with pytest.raises(grpc.RpcError) as refused:
        infer(server, user, InferInput(name, [len(data)], datatype, data))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert sentence in refused.value.details()

    texts = [value.decode() if isinstance(value, bytes) else value for value in data]
    inputs = [
        {"name": "user_id", "datatype": "BYTES", "shape": [1], "data": ["u-5"]},
        {"name": name, "datatype": datatype, "shape": [len(data)], "data": texts},
    ]
    answer = httpx.post(f"{server.url}/v2/models/{MODEL}/infer", json={"inputs": inputs})
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]


@pytest.mark.parametrize(
    ("tensor", "sentence"),
    [
        (("user_id", "BYTES", [2], ["u-5"]), "the input 'user_id' is no BYTES of shape [2]"),
        (("user_id", "BYTES", [1], [5]), "user_id is 5, a string is expected"),
        (("filters", "BYTES", [1], [5]), "the input 'filters' is 5, JSON text is expected"),
        (("k", "INT64", [1], ["many"]), "the input 'k' is no INT64 of shape [1]"),
        (("k", "INT64", [1], [2**80]), "the input 'k' is no INT64 of shape [1]"),
        (("seen", "BYTES", [0], []), "inputs hold 0 requests, 1 to 64 are taken"),
        (("k", "FP99", [1], [1]), "the input 'k' is FP99, INT64 or INT32 is expected"),
    ],
)
def test_tensor_that_is_not_what_it_says_is_refused(server: Server, tensor: Any, sentence: str) -> None:
    inputs = [dict(zip(("name", "datatype", "shape", "data"), tensor, strict=True))]
    answer = httpx.post(f"{server.url}/v2/models/{MODEL}/infer", json={"inputs": inputs})
    assert answer.status_code == 400, answer.text
    assert sentence in answer.json()["error"]


def test_text_that_is_no_utf8_and_names_given_twice_are_refused(server: Server) -> None:
    with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
        infer(server, InferInput("user_id", [1], "BYTES", [b"\xff\xfe"]))
    user = InferInput("user_id", [1], "BYTES", [b"u-5"])
    with pytest.raises(grpc.RpcError, match="each name is taken once"):
        infer(server, user, user)


def test_health_and_metadata_are_there_over_both(server: Server) -> None:
    assert httpx.get(f"{server.url}/v2/models/{MODEL}/ready").json() == {"name": MODEL, "ready": True}
    names = {tensor["name"] for tensor in httpx.get(f"{server.url}/v2/models/{MODEL}").json()["inputs"]}
    assert {"user_id", "history", "k", "filters"} < names
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        assert stub.ServerReady(messages.ServerReadyRequest()).ready
        assert stub.ModelReady(messages.ModelReadyRequest(name=MODEL)).ready


# The process


def test_event_loop_answers_while_the_model_runs(server: Server) -> None:
    """Health answers in full between the start and the end of a slow prediction, over REST and gRPC."""

    async def race() -> list[str]:
        ended: list[str] = []
        async with httpx.AsyncClient(base_url=server.url, timeout=20) as client:

            async def ask(name: str, path: str, **options: Any) -> None:
                (await client.request("POST" if options else "GET", path, **options)).raise_for_status()
                ended.append(name)

            slow = {"instances": [{"history": {"items": [SLOW_ITEM]}}]}
            prediction = asyncio.create_task(ask("prediction", f"/v1/models/{MODEL}:predict", json=slow))
            await asyncio.sleep(SLOW_S / 5)
            for _ in range(5):
                await ask("health", "/v2/health/ready")
            await prediction
        return ended

    assert asyncio.run(race()) == ["health"] * 5 + ["prediction"]


def test_server_listens_on_loopback_only(server: Server) -> None:
    listening = {
        (connection.laddr.ip.removeprefix("::ffff:"), connection.laddr.port)
        for connection in psutil.Process(server.process.pid).connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", server.http_port), ("127.0.0.1", server.grpc_port)}


def test_metrics_tell_the_release_and_how_calls_ended(server: Server) -> None:
    assert server.metric('nextpage_release_info{hash="c0ffee",name="standin-1"}') == 1
    counters = {name: f'nextpage_requests_total{{outcome="{name}"}}' for name in ("ok", "invalid")}
    before = {name: server.metric(counter) for name, counter in counters.items()}
    timed = server.metric("nextpage_request_seconds_count")
    server.predict({"user_id": "u-5"})
    server.predict({"user_id": "u-5", "k": 0})
    after = {name: server.metric(counter) for name, counter in counters.items()}
    assert after == {name: count + 1 for name, count in before.items()}
    assert server.metric("nextpage_request_seconds_count") == timed + 2


def test_sigterm_ends_calls_in_flight_then_the_process_with_all_events_written(tmp_path: Path) -> None:
    server = start_standin(tmp_path)
    answers: list[httpx.Response] = []
    slow = {"history": {"items": [SLOW_ITEM]}, "request_id": "in flight", "k": 2}
    call = threading.Thread(target=lambda: answers.append(server.predict(slow)))
    call.start()
    assert eventually(lambda: server.metric("nextpage_inflight_requests") == 1)
    server.process.send_signal(signal.SIGTERM)
    call.join()
    end(server)
    assert answers[0].status_code == 200
    assert server.process.returncode == 0
    assert [row["request_id"] for row in logged(server, "exposures")] == ["in flight"] * 2


# What is logged


def test_exposures_and_feedback_are_logged_once_and_join_by_request_id(server: Server) -> None:
    for _ in range(2):
        server.slate(user_id="u-5", k=3, request_id="logged")
    said = {
        "request_id": "logged",
        "events": [
            {"item_id": "i0006", "behaviour": "clicked", "time": 1_735_689_600},
            {"item_id": "i0006", "behaviour": "ordered", "value": 3.5},
        ],
    }
    first = httpx.post(f"{server.url}/v1/feedback", json=said)
    again = httpx.post(f"{server.url}/v1/feedback", json=said)
    assert (first.status_code, first.json()) == (202, {"accepted": 2, "repeated": 0, "dropped": 0})
    assert (again.status_code, again.json()) == (202, {"accepted": 0, "repeated": 2, "dropped": 0})

    def mine(kind: str) -> list[dict[str, Any]]:
        return [row for row in logged(server, kind) if row["request_id"] == "logged"]

    assert eventually(lambda: len(mine("exposures")) == 3 and len(mine("feedback")) == 2)
    exposures = sorted(mine("exposures"), key=lambda row: row["position"])
    assert [row["item_id"] for row in exposures] == ["i0006", "i0007", "i0008"]
    assert [row["score"] for row in exposures] == [0.0, -0.5, -1.0]
    assert {(row["user_id"], row["release_name"], row["degraded"]) for row in exposures} == {
        ("u-5", "standin-1", False)
    }
    assert {(row["behaviour"], row["value"]) for row in mine("feedback")} == {("clicked", None), ("ordered", 3.5)}


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"events": []}, "request_id is absent"),
        ({"request_id": "r", "events": []}, "events has 0 entries, 1 to 500"),
        ({"request_id": "r", "events": [{"item_id": "i"}]}, "events[0].behaviour is absent: use one of clicked"),
        ({"request_id": "r", "events": [{"item_id": "i", "behaviour": "exposed"}]}, "use one of clicked, ordered"),
        (
            {"request_id": "r", "events": [{"item_id": "i", "behaviour": "clicked", "time": 10**12}]},
            "events[0].time is 1000000000000, outside",
        ),
        (
            {"request_id": "r", "events": [{"item_id": "i", "behaviour": "clicked", "value": "3"}]},
            "events[0].value is '3', a finite number",
        ),
    ],
)
def test_bad_feedback_gets_400(server: Server, said: dict[str, Any], sentence: str) -> None:
    answer = httpx.post(f"{server.url}/v1/feedback", json=said)
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]
