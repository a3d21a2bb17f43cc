"""The stand-in with a model that takes its time, or waits until it is told to go on."""

import sys
import time
from pathlib import Path
from typing import Any

from nextpage.recommender import Query, Recommendation
from serving.batching import BatchingConfig
from serving.server import ServerConfig, serve_recommender
from tests.serving.standin import MODEL, StandIn

REQUEST_S = 0.02
HELD_ITEM = "i0036"  # a history that ends with it holds the model until there is a file `go` in the events' folder


class Slow(StandIn):
    def __init__(self, go: Path) -> None:
        super().__init__()
        self._go = go

    def recommend(self, queries: list[Query], *more: Any) -> list[list[Recommendation]]:
        time.sleep(REQUEST_S * len(queries))
        while any(query.item_ids[-1] == HELD_ITEM and query.as_of > 1 for query in queries) and not self._go.exists():
            time.sleep(0.01)
        return super().recommend(queries, *more)


def main(http_port: str, grpc_port: str, events: str, target_ms: str) -> None:
    config = ServerConfig(
        model_name=MODEL,
        http_port=int(http_port),
        grpc_port=int(grpc_port),
        events=events,
        batching=BatchingConfig(most=4, target_ms=float(target_ms), deadline_s=60),
    )
    serve_recommender(Slow(Path(events) / "go"), config)


if __name__ == "__main__":
    main(*sys.argv[1:])
