"""What was asked, what was shown and what came of it, logged without ever holding up an answer.

Rows go through a bounded queue to a thread that hands them to a sink (`serving.sinks`). A sink that fails is tried
again for a while, then its rows are dropped; meanwhile the queue fills, and what finds it full is dropped at once.
Whatever is dropped is counted. Rows wait in memory for `flush_s`: that much a killed process loses.

A request id is exposed once and a (request, item, behaviour) is fed back once, however often clients repeat themselves.
Requests are logged each time, the failed ones too, once they could be read.

`propensity` is exp(score): P(i) = (1 − λ) P_model(i) + λ P_own(i), the mixture of the recipe's repeat prior (λ 0: the
model alone). P_model is the product over levels of the softmax over all codes, whatever catalogue, filters and beams
leave out, and 0 for an own item that the search did not return; P_own is the item's share in the user's orders, recent
ones weighing more. So those of a slate need not sum to 1, and none tells of a position. Null where popularity answered.
It says how much the release favours the item, not how likely the item was to be shown: a slate is the k best, no draw.
"""

import logging
import math
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from serving.metrics import EVENTS
from serving.release_info import ServedRelease
from serving.schema import Slate, SlateRequest

log = logging.getLogger("nextpage.serving")

EXPOSURES = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string()),
        pa.field("arm", pa.string()),
        pa.field("release_name", pa.string(), nullable=False),
        pa.field("release_hash", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("propensity", pa.float64()),
        pa.field("degraded", pa.bool_(), nullable=False),
        pa.field("reason", pa.string()),
    ]
)
FEEDBACK = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("behaviour", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("received", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)
REQUESTS = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string()),
        pa.field("arm", pa.string()),
        pa.field("release_name", pa.string(), nullable=False),
        pa.field("release_hash", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("latency_ms", pa.float64(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("as_of", pa.timestamp("us", tz="UTC")),  # the moment that was recommended for
        pa.field("invalid_items", pa.int32()),  # left out of the slate; null where the request failed
    ]
)
SERVED, FALLBACK, FAILED = "served", "fallback", "failed"  # outcomes
SCHEMAS = {"exposures": EXPOSURES, "feedback": FEEDBACK, "requests": REQUESTS}

Rows = Sequence[dict[str, Any]]
Sink = Callable[[str, pa.Table], None]  # kind, rows


@dataclass(frozen=True, kw_only=True)
class EventLogConfig:
    capacity: int = 10_000  # entries (requests, slates, feedback calls) that may wait
    rows: int = 50_000  # the sink is called when so many rows have come
    flush_s: float = 10.0  # or this long after the first of them
    retry_s: float = 30.0  # how long a sink that fails is tried again with the same rows
    pause_s: float = 1.0  # between two tries
    remembered: int = 100_000  # keys that repeats are told by


class EventLog:
    """The bounded queue and its writing thread. `answer`, `expose` and `feed_back` never block."""

    def __init__(self, sink: Sink, config: EventLogConfig) -> None:
        self._sink = sink
        self._config = config
        self._waiting: queue.Queue[tuple[str, Rows]] = queue.Queue(config.capacity)
        self._exposed = _Recent(config.remembered)
        self._fed_back = _Recent(config.remembered)
        self._closing = threading.Event()
        self._writer = threading.Thread(target=self._write_forever, name="events", daemon=True)
        self._writer.start()

    @property
    def waiting(self) -> int:
        """Entries in the queue."""
        return self._waiting.qsize()

    def answer(
        self, asked: SlateRequest, slate: Slate | None, release: ServedRelease, *, arm: str | None, latency_ms: float
    ) -> None:
        """Log a request that has just ended, and the slate as shown; `slate` None: it failed."""
        outcome = FAILED if slate is None else FALLBACK if slate.degraded else SERVED
        row = {
            "request_id": asked.request_id,
            "user_id": asked.user_id,
            "arm": arm,
            "release_name": slate.release_name if slate else release.name,
            "release_hash": slate.release_hash if slate else release.hash,
            "time": datetime.now(UTC),
            "latency_ms": latency_ms,
            "outcome": outcome,
            "as_of": datetime.fromtimestamp(asked.as_of, UTC),
            "invalid_items": slate.invalid_items if slate else None,
        }
        self._log("requests", [row])
        if slate is not None:
            self.expose(slate, asked.user_id, arm)

    def expose(self, slate: Slate, user_id: str | None, arm: str | None = None) -> bool:
        """Log a slate as shown now. False where its request id was logged before, or the queue is full."""
        if slate.request_id in self._exposed:
            return False
        now = datetime.now(UTC)
        rows = [
            {
                "request_id": slate.request_id,
                "user_id": user_id,
                "arm": arm,
                "release_name": slate.release_name,
                "release_hash": slate.release_hash,
                "time": now,
                "position": item.position,
                "item_id": item.item_id,
                "score": item.score,
                "propensity": None if slate.degraded else min(1.0, math.exp(item.score)),
                "degraded": slate.degraded,
                "reason": slate.reason,
            }
            for item in slate.items
        ]
        logged = self._log("exposures", rows)
        self._exposed.add([slate.request_id] if logged else [])  # what was dropped may be sent again
        return logged

    def feed_back(self, rows: Rows) -> tuple[int, int]:
        """Log rows of FEEDBACK. How many were accepted, and how many were repeats; the rest were dropped."""
        fresh = {(row["request_id"], row["item_id"], row["behaviour"]): row for row in rows}
        fresh = {key: row for key, row in fresh.items() if key not in self._fed_back}
        logged = self._log("feedback", list(fresh.values()))
        self._fed_back.add(list(fresh) if logged else [])
        return len(fresh) if logged else 0, len(rows) - len(fresh)

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what waits and end the thread; give up on a sink that is stuck."""
        self._closing.set()
        self._writer.join(timeout_s)
        if self._writer.is_alive():
            log.warning("events: the sink is stuck, about %d entries are lost", self._waiting.qsize())

    def _log(self, kind: str, rows: Rows) -> bool:
        """False where the rows are dropped."""
        try:
            if rows:
                self._waiting.put_nowait((kind, rows))
        except queue.Full:
            EVENTS.labels(kind, "dropped").inc(len(rows))
            return False
        return True

    def _write_forever(self) -> None:
        held: dict[str, list[pa.RecordBatch]] = {kind: [] for kind in SCHEMAS}
        count, oldest = 0, time.monotonic()
        while not (self._closing.is_set() and self._waiting.empty()):
            try:
                kind, rows = self._waiting.get(timeout=min(0.1, self._config.flush_s))
            except queue.Empty:
                rows = ()
            if rows:
                oldest = oldest if count else time.monotonic()
                count += len(rows)
                # Entry by entry: turning a file's worth of rows at once would hold the interpreter and every call.
                held[kind].append(pa.RecordBatch.from_pylist(list(rows), schema=SCHEMAS[kind]))
            if count >= self._config.rows or (count and time.monotonic() - oldest >= self._config.flush_s):
                self._flush(held)
                count = 0
        self._flush(held)

    def _flush(self, held: dict[str, list[pa.RecordBatch]]) -> None:
        for kind, batches in held.items():
            if batches:
                rows = pa.Table.from_batches(batches).combine_chunks()
                batches.clear()
                self._write(kind, rows)

    def _write(self, kind: str, rows: pa.Table) -> None:
        """Until the sink takes the rows or the patience with it ends; a log that is closing has none."""
        gives_up = time.monotonic() + self._config.retry_s
        while True:
            try:
                self._sink(kind, rows)
                EVENTS.labels(kind, "written").inc(len(rows))
                return
            except Exception as failure:
                if self._closing.is_set() or time.monotonic() >= gives_up:
                    EVENTS.labels(kind, "dropped").inc(len(rows))
                    log.warning("events: %d %s lost: %s: %s", len(rows), kind, type(failure).__name__, failure)
                    return
            self._closing.wait(self._config.pause_s)


class _Recent:
    """The last keys that were added, up to a number."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._keys: OrderedDict[Hashable, None] = OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._keys

    def add(self, keys: Sequence[Hashable]) -> None:
        for key in keys:
            self._keys[key] = None
        while len(self._keys) > self._most:
            self._keys.popitem(last=False)
