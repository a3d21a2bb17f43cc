"""A server over a stand-in for a release, so that what serving promises is tested apart from any model.

The stand-in ranks items by the last item of the history: the items after it in the catalogue, then round again. It has
the interface of `nextpage.recommender.Recommender`. Some item and user names make trouble on purpose.
"""

import asyncio
import sys
import time

import numpy as np
import pyarrow as pa

from nextpage.decoding.served_catalogue import ServedCatalogue
from nextpage.recommender import Query, Recommendation
from nextpage.release import FeatureService
from nextpage.tokenizers.semantic_ids import SemanticIds
from serving.events import EventLogConfig
from serving.history import History
from serving.server import ServerConfig, serve_recommender

MODEL = "nextpage"
ITEMS = 40
CATEGORIES = ("milk", "bread", "tea", "soap")
FEATURES = FeatureService(name="recommender_test", hash="f00d")
SLOW_ITEM = "i0039"  # a history that ends with it takes the model SLOW_S
BROKEN_ITEM = "i0038"  # a history that ends with it makes the model raise
FAULTY_ITEM = "i0037"  # a history that ends with it makes the search break its promises
SLOW_S = 1.5
BUDGET_MS = 300.0


class StandIn:
    release_name = "standin-1"
    release_hash = "c0ffee"
    feature_service = FEATURES

    def __init__(self) -> None:
        item_ids = [f"i{row:04d}" for row in range(ITEMS)]
        items = pa.table(
            {
                "item_id": item_ids,
                "text": [f"{CATEGORIES[row % 4]} kind {row // 4}" for row in range(ITEMS)],
                "category": [CATEGORIES[row % 4] for row in range(ITEMS)],
                "brand": pa.array([None if row == 0 else f"brand {row % 3}" for row in range(ITEMS)], pa.string()),
            }
        )
        items = items.append_column("orders", pa.array(range(ITEMS)))
        codes = np.stack([np.arange(ITEMS)], axis=1).astype(np.int32)
        self.catalogue = ServedCatalogue.of(
            SemanticIds(item_ids=np.array(item_ids, dtype=object), codes=codes, sizes=(ITEMS,)), items
        )

    def recommend(self, queries: list[Query], catalogue: ServedCatalogue) -> list[list[Recommendation]]:
        return [self._one(query) for query in queries]

    def _one(self, query: Query) -> list[Recommendation]:
        known = [int(item_id[1:]) for item_id in query.item_ids if item_id[1:].isdigit()]
        last = known[-1]
        if query.item_ids[-1] == SLOW_ITEM and query.as_of > ITEMS + 1:  # not in the warm-up
            time.sleep(SLOW_S)
        if query.item_ids[-1] == BROKEN_ITEM and query.as_of > ITEMS + 1:
            raise RuntimeError("the stand-in was told to fail")
        rows = [(last + 1 + step) % ITEMS for step in range(ITEMS)]
        if query.allowed is not None:
            rows = np.array(rows)[query.allowed.holds(np.array(rows))].tolist()
        found = [Recommendation(item_id=f"i{row:04d}", row=row, score=-0.5 * place) for place, row in enumerate(rows)]
        if query.item_ids[-1] == FAULTY_ITEM and query.as_of > ITEMS + 1:
            found = [found[0], found[0], Recommendation(item_id="gone", row=ITEMS + 5, score=-9.0), *found[1:]]
        return found[: query.k]


class StandInHistories:
    """Users by name: `u-slow`, `u-broken`, `u-empty`, and `u-<row>` who last ordered the item of that row."""

    service = FEATURES

    async def history(self, user_id: str) -> History | None:
        match user_id.removeprefix("u-"):
            case "slow":
                await asyncio.sleep(60)
            case "broken":
                raise ConnectionError("the stand-in store is down")
            case "empty":
                return History(items=(), behaviours=(), pages=(), times=())
            case row if row.isdigit():
                items = ("i0001", f"i{int(row):04d}")
                return History(items=items, behaviours=(2, 2), pages=(0, 1), times=(1_600_000_000, 1_700_000_000))
        return None


def main(http_port: str, grpc_port: str, events: str) -> None:
    config = ServerConfig(
        model_name=MODEL,
        http_port=int(http_port),
        grpc_port=int(grpc_port),
        events=events,
        budget_ms=BUDGET_MS,
        event_log=EventLogConfig(flush_s=0.2, retry_s=0.5, pause_s=0.1),
    )
    serve_recommender(StandIn(), config, StandInHistories())


if __name__ == "__main__":
    main(*sys.argv[1:])
