"""KServe's two protocols over one schema.

v1: `{"instances": [request, …]}` to `{"predictions": [slate, …]}`.

v2 (REST and gRPC), B requests a call. Inputs are named as the fields of a request, shape [B]: `user_id`, `request_id`
and `seen` as BYTES, `k` and `as_of` as INT64, `history`, `filters`, `exclude` and `stock` as BYTES that hold JSON; an
empty string stands for an absent field. Outputs: `item_id` and `text` BYTES [B, K], `score` FP64 [B, K] with K the
longest slate and padding of "" and 0; `count` INT64 [B]; `degraded` BOOL [B]; `request_id`, `reason` BYTES [B]
("" where not degraded). The release's name and hash are parameters of the response; where its catalogue was swapped,
`catalogue_hash` too, two of them with a comma between where that happened between requests of the call.
"""

import math
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kserve import InferInput, InferOutput, InferRequest, InferResponse

from serving.checks import entries, mapping, parsed, text
from serving.errors import InvalidRequest
from serving.schema import FIELDS, Slate, SlateRequest, parse_request, slate_to_json

MOST_INSTANCES = 64
ARM_HEADER = "x-nextpage-arm"
TIMEOUT_HEADER = "x-envoy-expected-rq-timeout-ms"
"""Says how long the caller waits. Envoy sets it to the timeout of its route."""
LONGEST_ARM = 64
TEXT_TENSORS = ("user_id", "request_id", "seen", "fallback")
INTEGER_TENSORS = ("k", "as_of")
JSON_TENSORS = ("history", "filters", "exclude", "stock")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of either protocol: its requests, and what its answer has to repeat. `arm`: the experiment's, None
    where the gateway names none; `came`: by `time.perf_counter`; `within_s`: how long the caller waits from then."""

    requests: tuple[SlateRequest, ...]
    version: int
    model_name: str
    call_id: str
    arm: str | None
    came: float
    within_s: float


def decode(body: object, headers: Mapping[str, str] | None, model_name: str) -> Call:
    """Read a call. A lone request that has no id takes the call's (v2), else the header's `x-request-id`.

    Raises InvalidRequest.
    """
    came, headers = time.perf_counter(), headers or {}
    given, arm = headers.get("x-request-id"), headers.get(ARM_HEADER)
    if isinstance(body, InferRequest):
        version, given, raw = 2, body.id or given, _instances(body.inputs)
    else:
        if isinstance(body, bytes):  # KServe parses only what says that it is JSON
            body = parsed("the body", body)
        version, raw = 1, entries("instances", mapping("the body", body).get("instances"), 1, MOST_INSTANCES)
    alone = len(raw) == 1
    now = int(time.time())
    requests = tuple(
        parse_request(
            instance,
            now=now,
            request_id=given if alone and given else uuid.uuid4().hex,
            where="" if alone else f"instances[{place}].",
        )
        for place, instance in enumerate(raw)
    )
    return Call(
        requests=requests,
        version=version,
        model_name=model_name,
        call_id=given or requests[0].request_id,
        arm=text(ARM_HEADER, arm, LONGEST_ARM) if arm else None,
        came=came,
        within_s=_seconds(headers.get(TIMEOUT_HEADER)),
    )


def _seconds(timeout_ms: str | None) -> float:
    """From TIMEOUT_HEADER; for ever where it is absent or 0."""
    if timeout_ms is not None and not timeout_ms.isdecimal():
        raise InvalidRequest(f"{TIMEOUT_HEADER} is {timeout_ms[:40]!r}, a whole number of milliseconds is expected")
    return int(timeout_ms or 0) / 1000 or math.inf


def encode(call: Call, slates: Sequence[Slate]) -> dict[str, Any] | InferResponse:
    if call.version == 1:
        return {"predictions": [slate_to_json(slate) for slate in slates]}
    widest = max(len(slate.items) for slate in slates)

    def padded(name: str, filler: str | float) -> list[Any]:
        values: list[Any] = []
        for slate in slates:
            values += [getattr(item, name) or filler for item in slate.items]
            values += [filler] * (widest - len(slate.items))
        return values

    many, wide = [len(slates)], [len(slates), widest]
    outputs = [
        InferOutput("item_id", wide, "BYTES", padded("item_id", "")),
        InferOutput("score", wide, "FP64", padded("score", 0.0)),
        InferOutput("text", wide, "BYTES", padded("text", "")),
        InferOutput("count", many, "INT64", [len(slate.items) for slate in slates]),
        InferOutput("request_id", many, "BYTES", [slate.request_id for slate in slates]),
        InferOutput("degraded", many, "BOOL", [slate.degraded for slate in slates]),
        InferOutput("reason", many, "BYTES", [slate.reason or "" for slate in slates]),
    ]
    release = {"release_name": slates[0].release_name, "release_hash": slates[0].release_hash}
    hashes = sorted({slate.catalogue_hash for slate in slates} - {""})
    catalogue = {"catalogue_hash": ",".join(hashes)} if hashes else {}
    return InferResponse(call.call_id, call.model_name, outputs, parameters=release | catalogue)


def _instances(tensors: Sequence[InferInput]) -> Sequence[Any]:
    """The requests that the tensors of a v2 call spell, field by field."""
    if not tensors:
        raise InvalidRequest("inputs is empty: user_id or history is expected")
    columns = {tensor.name: _column(tensor) for tensor in tensors}
    if len(columns) < len(tensors):
        raise InvalidRequest(f"inputs are named {[tensor.name for tensor in tensors]}: each name is taken once")
    sizes = {name: len(values) for name, values in columns.items()}
    if len(set(sizes.values())) != 1:
        raise InvalidRequest(f"inputs have the lengths {sizes}: each holds one value a request")
    count = next(iter(sizes.values()))
    if not 1 <= count <= MOST_INSTANCES:
        raise InvalidRequest(f"inputs hold {count} requests, 1 to {MOST_INSTANCES} are taken")
    return [
        {name: values[place] for name, values in columns.items() if values[place] is not None} for place in range(count)
    ]


def _column(tensor: InferInput) -> list[Any]:
    """One value a request; None where absent."""
    if tensor.name not in FIELDS:
        raise InvalidRequest(f"the input {tensor.name!r} is unknown: known are {', '.join(FIELDS)}")
    integral = tensor.name in INTEGER_TENSORS
    wanted = ("INT64", "INT32") if integral else ("BYTES",)
    if tensor.datatype not in wanted:
        raise InvalidRequest(f"the input {tensor.name!r} is {tensor.datatype}, {' or '.join(wanted)} is expected")
    try:
        read = tensor.as_numpy().ravel().tolist()
        values = [value.decode() if isinstance(value, bytes) else value for value in read]
    except (ValueError, TypeError, OverflowError) as error:
        said = f"the input {tensor.name!r} is no {tensor.datatype} of shape {list(tensor.shape)}"
        raise InvalidRequest(f"{said}: {error}") from None
    if tensor.name in JSON_TENSORS:
        return [parsed(f"the input {tensor.name!r}", value) if value else None for value in values]
    return values if integral else [value or None for value in values]
