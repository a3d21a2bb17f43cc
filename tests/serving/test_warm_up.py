"""Predictor and transformer without a server around them: what is done before ports open, and refusals passed on."""

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from nextpage.recommender import Query, Recommendation
from serving.batching import BatchingConfig
from serving.errors import Overloaded, Refused, TooLate, Unavailable
from serving.history import History
from serving.metrics import REQUESTS
from serving.predictor import Predictor
from serving.release_info import ServedRelease
from serving.schema import Slate, SlateRequest
from serving.transformer import Transformer
from serving.warm_up import first_requests
from tests.serving.standin import FEATURES, MODEL, StandIn

ITEM_IDS = [f"i{row:05d}" for row in range(20_000)]
RELEASE = ServedRelease(name="r", hash="h", feature_service=FEATURES)


def test_first_requests_are_lone_and_wide_short_and_long_filtered_and_not() -> None:
    batches = list(first_requests(ITEM_IDS, 8))
    requests = [request for batch in batches for request in batch]
    histories = [request.history for request in requests if request.history is not None]
    assert {len(batch) for batch in batches} == {1, 8}
    assert {(len(batch), len(batch[0].history.items)) for batch in batches if batch[0].history} >= {(1, 512), (8, 512)}
    assert {request.seen for request in requests} == {"include", "exclude"}
    assert max(request.k for request in requests) == 200
    assert len({history.items[0] for history in histories}) == len(requests)


class Store:
    """Users' histories that take `seconds` each, in turn; after that none at all."""

    service = FEATURES

    def __init__(self, *seconds: float) -> None:
        self.seconds = list(seconds)
        self.asked: list[str] = []

    async def history(self, user_id: str) -> History | None:
        self.asked.append(user_id)
        await asyncio.sleep(self.seconds.pop(0) if self.seconds else 0)
        return None


class BrokenStore(Store):
    async def history(self, user_id: str) -> History | None:
        raise ConnectionError("the store is down")


class Model(StandIn):
    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def recommend(self, queries: list[Query], *more: Any) -> list[list[Recommendation]]:
        self.batches.append(len(queries))
        return super().recommend(queries, *more)


def transformer(store: Store, predictor: Predictor | None) -> Transformer:
    return Transformer(MODEL, store, release=RELEASE, predictor=predictor, budget_ms=50)


def test_transformer_looks_users_up_until_the_store_answers_within_the_budget() -> None:
    model, store = Model(), Store(0.2, 0.1, 0.0)
    predictor = Predictor(MODEL, model, BatchingConfig(most=8))  # type: ignore[arg-type]
    counted = REQUESTS.labels("ok")._value.get()

    async def start() -> float:
        await transformer(store, predictor).warm_up()
        return predictor._batcher.expected_s(count=1, work=1)

    expected_s = asyncio.run(start())
    predictor.close()
    assert store.seconds == []
    assert model.batches[0] == 1
    assert max(model.batches) == 8
    assert expected_s > 0  # it knows already what a request takes
    assert REQUESTS.labels("ok")._value.get() == counted


@pytest.mark.parametrize(
    ("status", "refusal", "retry_after_s"), [(429, Overloaded, 7), (503, Unavailable, 1), (504, TooLate, None)]
)
def test_a_predictors_status_is_the_transformers(
    monkeypatch: pytest.MonkeyPatch, status: int, refusal: type[Refused], retry_after_s: int | None
) -> None:
    async def refuse(self: Transformer, body: Any) -> Any:
        answer = httpx.Response(status, json={"error": "not now"}, headers={"retry-after": "7"})
        raise httpx.HTTPStatusError("refused", request=httpx.Request("POST", "http://predictor"), response=answer)

    monkeypatch.setattr(Transformer, "_http_predict", refuse)
    request = SlateRequest(request_id="r", as_of=9, history=History(items=(), behaviours=(), pages=(), times=()))
    with pytest.raises(refusal, match="not now") as refused:
        asyncio.run(transformer(Store(), None).recommend([request]))
    assert (refused.value.http_status, refused.value.retry_after_s) == (status, retry_after_s)


def test_store_and_predictor_that_are_down_hold_no_server_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(self: Transformer, requests: Sequence[SlateRequest]) -> list[Slate]:
        raise Unavailable("the predictor does not answer")

    monkeypatch.setattr(Transformer, "_ask_predictor", refused)
    monkeypatch.setattr("serving.transformer.LOOK_UPS", 2)
    asyncio.run(transformer(BrokenStore(), None).warm_up())
