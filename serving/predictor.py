"""The predictor: a release behind KServe."""

import asyncio
from collections.abc import Sequence

from nextpage.recommender import Recommender
from serving.batching import BatchingConfig, MicroBatcher
from serving.endpoint import Endpoint
from serving.events import EventLog
from serving.metrics import RELEASE
from serving.release_info import ServedRelease
from serving.schema import Slate, SlateRequest
from serving.slates import SlateMaker


class Predictor(Endpoint):
    """Answers from explicit histories; a request without one gets popularity, degraded.

    The model runs in a thread of its own on batches of what came in together.
    """

    def __init__(
        self, name: str, recommender: Recommender, batching: BatchingConfig, events: EventLog | None = None
    ) -> None:
        release = ServedRelease(
            name=recommender.release_name,
            hash=recommender.release_hash,
            feature_service=recommender.feature_service,
        )
        super().__init__(name, release, events)
        self._maker = SlateMaker(recommender)
        self._batcher = MicroBatcher(self._maker.slates, batching)
        self._widest = batching.most

    def load(self) -> bool:
        """Warm up; ready is what answers at full speed."""
        self._maker.warm_up(self._widest)
        RELEASE.labels(self.release.name, self.release.hash).set(1)
        self.ready = True
        return self.ready

    async def recommend(self, requests: Sequence[SlateRequest]) -> list[Slate]:
        for request in requests:
            self._maker.catalogue.check(request)
        return await asyncio.gather(*(self._batcher.submit(request) for request in requests))

    def close(self) -> None:
        """End the model thread; not KServe's `stop`, which comes while gRPC calls are still in flight."""
        self._batcher.close()
