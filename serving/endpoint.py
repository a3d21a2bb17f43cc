"""What predictor and transformer share as KServe models: decode, answer, log, encode, measure."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from kserve import Model
from kserve.model import InferenceVerb

from serving import wire
from serving.errors import Refused
from serving.events import EventLog
from serving.metrics import DEGRADED, IN_FLIGHT, LATENCY, REQUESTS
from serving.schema import Slate, SlateRequest
from serving.wire import Call, decode, encode


@dataclass(frozen=True, kw_only=True)
class Answered:
    call: Call
    slates: Sequence[Slate]


class Endpoint(Model):
    """A KServe model whose answers are slates. A subclass says how in `recommend`.

    With `events` it logs what it shows: only the server that answers users has one, not a predictor behind it.
    """

    def __init__(self, name: str, events: EventLog | None = None) -> None:
        super().__init__(name)
        self.events = events

    async def recommend(self, requests: Sequence[SlateRequest]) -> list[Slate]:
        """One slate a request, in order."""
        raise NotImplementedError

    async def __call__(
        self,
        body: Any,
        headers: dict[str, str] | None = None,
        verb: InferenceVerb = InferenceVerb.PREDICT,
    ) -> Any:
        started, outcome = perf_counter(), "error"
        try:
            with IN_FLIGHT.track_inprogress():
                answer = await super().__call__(body, headers, verb)
            outcome = "ok"
            return answer
        except Refused as refusal:
            outcome = refusal.outcome
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            REQUESTS.labels(outcome).inc()
            LATENCY.observe(perf_counter() - started)

    async def preprocess(self, payload: Any, headers: Mapping[str, str] | None = None) -> Call:
        return decode(payload, headers, self.name)

    async def predict(self, payload: Call, headers: Any = None, response_headers: Any = None) -> Answered:
        return Answered(call=payload, slates=await self.recommend(payload.requests))

    async def postprocess(self, result: Answered, headers: Any = None, response_headers: Any = None) -> Any:
        for request, slate in zip(result.call.requests, result.slates, strict=True):
            if slate.degraded:
                DEGRADED.labels(slate.reason).inc()
            if self.events is not None:
                self.events.expose(slate, request.user_id)
        return encode(result.call, result.slates)

    def get_input_types(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "datatype": "INT64" if name in wire.INTEGER_TENSORS else "BYTES", "shape": [-1]}
            for name in (*wire.TEXT_TENSORS, *wire.INTEGER_TENSORS, *wire.JSON_TENSORS)
            if name != "fallback"
        ]

    def get_output_types(self) -> list[dict[str, Any]]:
        wide = [("item_id", "BYTES"), ("score", "FP64"), ("text", "BYTES")]
        many = [("count", "INT64"), ("request_id", "BYTES"), ("degraded", "BOOL"), ("reason", "BYTES")]
        return [{"name": name, "datatype": datatype, "shape": [-1, -1]} for name, datatype in wide] + [
            {"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in many
        ]
