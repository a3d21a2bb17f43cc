"""What was shown and what came of it, logged without ever holding up an answer.

Rows go through a bounded queue to a thread that writes them. When the queue is full they are dropped and counted. A
request id is exposed once and a (request, item, behaviour) is fed back once, however often clients repeat themselves.
Rows wait in memory until a file is written, so a killed process loses at most `flush_s` of them.
"""

import logging
import queue
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from serving.metrics import EVENTS
from serving.schema import Slate

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
        pa.field("outcome", pa.string(), nullable=False),  # served, fallback or failed
    ]
)
SCHEMAS = {"exposures": EXPOSURES, "feedback": FEEDBACK, "requests": REQUESTS}

Rows = Sequence[dict[str, Any]]
Sink = Callable[[str, pa.Table], None]  # kind, rows


@dataclass(frozen=True, kw_only=True)
class EventLogConfig:
    capacity: int = 10_000  # entries (slates, feedback calls) that may wait
    rows: int = 50_000  # a file is written when so many rows have come
    flush_s: float = 10.0  # or this long after the first of them
    remembered: int = 100_000  # keys that repeats are told by


class ParquetSink:
    """Writes each batch of rows as `<kind>/<time>-<id>.parquet`; a file appears whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for kind in SCHEMAS:
            (folder / kind).mkdir(parents=True, exist_ok=True)

    def __call__(self, kind: str, rows: pa.Table) -> None:
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:12]}.parquet"
        path = self._folder / kind / name
        unfinished = path.with_suffix(".tmp")
        pq.write_table(rows, unfinished)
        unfinished.replace(path)


class EventLog:
    """The bounded queue and its writing thread. `expose` and `feed_back` never block."""

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

    def expose(self, slate: Slate, user_id: str | None) -> bool:
        """Log a slate as shown now. False where its request id was logged before, or the queue is full."""
        now = datetime.now(UTC)
        rows = [
            {
                "request_id": slate.request_id,
                "user_id": user_id,
                "release_name": slate.release_name,
                "release_hash": slate.release_hash,
                "time": now,
                "position": item.position,
                "item_id": item.item_id,
                "score": item.score,
                "degraded": slate.degraded,
                "reason": slate.reason,
            }
            for item in slate.items
        ]
        return slate.request_id not in self._exposed and self._log("exposures", rows, self._exposed, [slate.request_id])

    def feed_back(self, rows: Rows) -> tuple[int, int]:
        """Log rows of FEEDBACK. How many were accepted, and how many were repeats; the rest were dropped."""
        fresh = {(row["request_id"], row["item_id"], row["behaviour"]): row for row in rows}
        fresh = {key: row for key, row in fresh.items() if key not in self._fed_back}
        accepted = not fresh or self._log("feedback", list(fresh.values()), self._fed_back, list(fresh))
        return len(fresh) if accepted else 0, len(rows) - len(fresh)

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what waits and end the thread; give up on a sink that is stuck."""
        self._closing.set()
        self._writer.join(timeout_s)
        if self._writer.is_alive():
            log.warning("events: the sink is stuck, about %d entries are lost", self._waiting.qsize())

    def _log(self, kind: str, rows: Rows, remembered: "_Recent", keys: Sequence[Hashable]) -> bool:
        try:
            self._waiting.put_nowait((kind, rows))
        except queue.Full:
            EVENTS.labels(kind, "dropped").inc(len(rows))
            return False
        remembered.add(keys)  # only now: a dropped event may be sent again
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
            if not batches:
                continue
            rows = pa.Table.from_batches(batches).combine_chunks()
            batches.clear()
            try:
                self._sink(kind, rows)
                EVENTS.labels(kind, "written").inc(len(rows))
            except Exception as failure:
                EVENTS.labels(kind, "dropped").inc(len(rows))
                log.warning("events: %d %s lost: %s: %s", len(rows), kind, type(failure).__name__, failure)


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


def joined(folder: Path) -> pa.Table:
    """Exposures with the strongest feedback on each: columns of EXPOSURES, then `clicked`, `ordered`, `value`.

    Feedback on what was not shown is left out; repeats count once, whichever process logged them.
    """
    import duckdb

    paths = {kind: [str(path) for path in sorted((folder / kind).glob("*.parquet"))] for kind in SCHEMAS}
    tables = {
        kind: pq.read_table(paths[kind], schema=SCHEMAS[kind]) if paths[kind] else SCHEMAS[kind].empty_table()
        for kind in SCHEMAS
    }
    with duckdb.connect() as database:
        for kind, table in tables.items():
            database.register(kind, table)
        return database.sql(_JOIN).to_arrow_table()


_JOIN = """
    with shown as (
        select * from exposures
        qualify row_number() over (partition by request_id, item_id order by time) = 1
    ), answered as (
        select request_id, item_id,
               bool_or(behaviour in ('clicked', 'ordered')) as clicked,
               bool_or(behaviour = 'ordered') as ordered,
               max(value) as value
        from feedback group by request_id, item_id
    )
    select shown.*, coalesce(clicked, false) as clicked, coalesce(ordered, false) as ordered, value
    from shown left join answered using (request_id, item_id)
    order by shown.time, shown.request_id, shown.position
"""
