"""What predictor and transformer share as KServe models: decode, answer, log, encode, measure."""

import abc
import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from kserve import InferInput, InferRequest, Model
from kserve.model import InferenceVerb

from serving import wire
from serving.errors import Refused, Unavailable
from serving.events import EventLog
from serving.metrics import DEGRADED, IN_FLIGHT, LATENCY, REQUESTS
from serving.release_info import ServedRelease
from serving.schema import Slate, SlateRequest
from serving.wire import Call, decode, encode

WARM_UP = "warm-up"
"""A user whom no feature store knows."""
_TENSOR = InferInput("user_id", [1], "BYTES", [WARM_UP.encode()])


@dataclass(frozen=True, kw_only=True)
class Answered:
    call: Call
    slates: Sequence[Slate]


class Endpoint(Model):
    """A KServe model whose answers are slates of `release`. A subclass says how in `recommend`.

    With `events` it logs what it is asked and what it shows: only the server that answers users has one, not a
    predictor behind it.
    """

    def __init__(self, name: str, release: ServedRelease, events: EventLog | None = None) -> None:
        super().__init__(name)
        self.release = release
        self.events = events
        self.in_flight = 0  # calls
        self.ending = False  # no more calls are taken

    @abc.abstractmethod
    async def recommend(self, requests: Sequence[SlateRequest], within_s: float = math.inf) -> list[Slate]:
        """One slate a request, in order, or Refused where they do not come `within_s`."""

    async def warm_up(self) -> None:
        """Answer as users will ask, unlogged and uncounted, so that no user waits for what a first call sets up."""
        for body in ({"instances": [{"user_id": WARM_UP}]}, InferRequest(self.name, [_TENSOR])):
            call = decode(body, None, self.name)
            encode(call, await self.recommend(call.requests))

    async def healthy(self) -> bool:
        """Whether it takes calls: what KServe's readiness asks."""
        return self.ready and not self.ending

    async def __call__(
        self,
        body: Any,
        headers: dict[str, str] | None = None,
        verb: InferenceVerb = InferenceVerb.PREDICT,
    ) -> Any:
        started, outcome = perf_counter(), "error"
        self.in_flight += 1
        try:
            if self.ending:
                raise Unavailable("the server is ending: ask another")
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
            self.in_flight -= 1
            REQUESTS.labels(outcome).inc()
            LATENCY.observe(perf_counter() - started)

    async def preprocess(self, payload: Any, headers: Mapping[str, str] | None = None) -> Call:
        return decode(payload, headers, self.name)

    async def predict(self, payload: Call, headers: Any = None, response_headers: Any = None) -> Answered:
        try:
            within_s = payload.within_s - (perf_counter() - payload.came)
            return Answered(call=payload, slates=await self.recommend(payload.requests, within_s))
        except BaseException:  # also where the caller has left
            self._log(payload, [None] * len(payload.requests))
            raise

    async def postprocess(self, result: Answered, headers: Any = None, response_headers: Any = None) -> Any:
        answer = encode(result.call, result.slates)
        for slate in result.slates:
            if slate.degraded:
                DEGRADED.labels(slate.reason).inc()
        self._log(result.call, result.slates)
        return answer

    def _log(self, call: Call, slates: Sequence[Slate | None]) -> None:
        if self.events is not None:
            latency_ms = 1000 * (perf_counter() - call.came)
            for request, slate in zip(call.requests, slates, strict=True):
                self.events.answer(request, slate, self.release, arm=call.arm, latency_ms=latency_ms)

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
