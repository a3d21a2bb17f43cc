"""The transformer: puts a user's history into the request, then asks the predictor.

The predictor may be in this process or behind KServe's `predictor_host`. A feature store that fails, is slow or does
not know the user costs the request its history, never its answer.
"""

import asyncio
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

import httpx

from serving import schema
from serving.endpoint import WARM_UP, Endpoint
from serving.errors import InvalidRequest, Overloaded, Refused, TooLate, Unavailable
from serving.events import EventLog
from serving.history import HistorySource
from serving.release_info import ServedRelease
from serving.schema import Slate, SlateRequest, request_to_json, slate_from_json

if TYPE_CHECKING:  # it imports torch, which a transformer alone does not need
    from serving.predictor import Predictor

log = logging.getLogger("nextpage.serving")
LOOK_UPS = 20
"""At most, before the ports open."""
LONGEST_LOOK_UP_S = 5.0


class Transformer(Endpoint):
    def __init__(
        self,
        name: str,
        histories: HistorySource,
        *,
        release: ServedRelease,
        predictor: "Predictor | None",
        budget_ms: float,
        events: EventLog | None = None,
    ) -> None:
        """`predictor` None: the one at KServe's `predictor_host`. `budget_ms` bounds a look-up."""
        super().__init__(name, release, events)
        self._histories = histories
        self._predictor = predictor
        self._budget_s = budget_ms / 1000

    async def warm_up(self) -> None:
        """Look up until an answer comes within the budget. A store or a predictor that fails holds no server up."""
        if self._predictor is not None:
            await self._predictor.warm_up()
        for _ in range(LOOK_UPS):
            began = perf_counter()
            try:
                await asyncio.wait_for(self._histories.history(WARM_UP), LONGEST_LOOK_UP_S)
            except Exception as failure:
                log.warning("feature store: %s: %s", type(failure).__name__, failure)
            if perf_counter() - began < self._budget_s:
                break
        try:
            await super().warm_up()
        except Refused as refusal:
            log.warning("the first call was refused: %s", refusal.details)

    async def recommend(self, requests: Sequence[SlateRequest], within_s: float = math.inf) -> list[Slate]:
        began = perf_counter()
        filled = await asyncio.gather(*(self._with_history(request) for request in requests))
        within_s -= perf_counter() - began
        if self._predictor is not None:
            return await self._predictor.recommend(filled, within_s)
        try:
            async with asyncio.timeout(within_s if within_s < math.inf else None):
                return await self._ask_predictor(filled)
        except TimeoutError:
            raise TooLate(f"no answer within {within_s:g} s: try again later") from None

    async def _with_history(self, request: SlateRequest) -> SlateRequest:
        if request.history is not None or request.fallback is not None or request.user_id is None:
            return request
        try:
            history = await asyncio.wait_for(self._histories.history(request.user_id), self._budget_s)
        except TimeoutError:
            return replace(request, fallback=schema.STORE_SLOW)
        except Exception as failure:
            log.warning("feature store: %s: %s", type(failure).__name__, failure)
            return replace(request, fallback=schema.STORE_FAILED)
        if history is None:
            return replace(request, fallback=schema.UNKNOWN_USER)
        return replace(request, history=history.before(request.as_of))

    async def _ask_predictor(self, requests: Sequence[SlateRequest]) -> list[Slate]:
        body = {"instances": [request_to_json(request) for request in requests]}
        try:
            said = await self._http_predict(body)
        except httpx.HTTPStatusError as refused:
            sentence = refused.response.json().get("error", refused.response.text)
            if refused.response.status_code == 400:
                raise InvalidRequest(sentence) from None
            if refused.response.status_code == 429:
                raise Overloaded(sentence, int(refused.response.headers.get("retry-after", 1))) from None
            if refused.response.status_code == 504:
                raise TooLate(sentence) from None
            raise Unavailable(f"the predictor failed: {sentence}") from refused
        except httpx.HTTPError as failure:
            raise Unavailable(f"the predictor does not answer: {failure}") from failure
        return [slate_from_json(slate) for slate in said["predictions"]]
