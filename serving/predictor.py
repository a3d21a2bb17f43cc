"""The predictor: a release behind KServe."""

import math
from collections.abc import Sequence

from nextpage.decoding.served_catalogue import ServedCatalogue
from nextpage.recommender import Recommender
from serving.batching import BatchingConfig, MicroBatcher
from serving.endpoint import Endpoint
from serving.events import EventLog
from serving.metrics import EXPECTED_WAIT, RELEASE
from serving.release_info import ServedRelease
from serving.schema import Slate, SlateRequest
from serving.slates import SlateMaker
from serving.warm_up import first_requests


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
        self._batcher = MicroBatcher(self._maker.slates, batching, work)
        self._widest, self._deadline_s = batching.most, batching.deadline_s

    def swap(self, catalogue: ServedCatalogue) -> None:
        """Answer from another catalogue; see `SlateMaker.swap`."""
        self._maker.swap(catalogue)

    def load(self) -> bool:
        RELEASE.labels(self.release.name, self.release.hash).set(1)
        EXPECTED_WAIT.set_function(self._batcher.expected_s)
        return super().load()

    async def warm_up(self) -> None:
        """Through the batcher, which so learns how long batches take."""
        for requests in first_requests(self._maker.catalogue.item_ids, self._widest):
            await self._batcher.submit(*requests, within_s=math.inf)
        await super().warm_up()

    async def recommend(self, requests: Sequence[SlateRequest], within_s: float = math.inf) -> list[Slate]:
        for request in requests:
            self._maker.catalogue.check(request)
        return await self._batcher.submit(*requests, within_s=min(within_s, self._deadline_s))

    def close(self) -> None:
        """End the model thread; not KServe's `stop`, which comes while gRPC calls are still in flight."""
        self._batcher.close()


def work(request: SlateRequest) -> float:
    """What a request takes of a batch's time: its search, and its prompt, of which 128 events take about as long. The
    prompt is cut to a few hundred events, and no prompt is nearly nothing."""
    if request.history is None or request.fallback is not None:
        return 0.0
    return 1 + min(len(request.history.items), 512) / 128
