"""Where the rows of the event log go: Parquet files in a folder, or Redis Streams, one a kind.

A sink returns when the rows are kept and raises where that is not sure; the log then calls it again with the same rows
(`serving.events`), so rows may come twice, equal in every column. `serving.attribution` counts them once.
"""

import logging
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from serving.events import SCHEMAS, Sink

log = logging.getLogger("nextpage.serving")

URLS = ("redis://", "rediss://", "unix://")
ROWS = "rows"  # the one field of a stream's entry: an Arrow IPC stream
ROWS_OF_AN_ENTRY = 1_000
PASSWORD = "NEXTPAGE_REDIS_PASSWORD"  # in the environment, for a URL without one
READER = "reader"


def make_sink(place: str | Path) -> Sink:
    """The sink of a folder, or of a URL of Redis: `redis://host:6379/0`."""
    return RedisStreamSink(str(place)) if str(place).startswith(URLS) else ParquetSink(Path(place))


class ParquetSink:
    """Writes each batch of rows as `<kind>/<time>-<id>.parquet`; a file appears whole and on disk, or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for kind in SCHEMAS:
            (folder / kind).mkdir(parents=True, exist_ok=True)

    def __call__(self, kind: str, rows: pa.Table) -> None:
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:12]}.parquet"
        path = self._folder / kind / name
        unfinished = path.with_suffix(".tmp")
        with unfinished.open("wb") as file:
            pq.write_table(rows, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        _keep_names(path.parent)


def _keep_names(folder: Path) -> None:
    """A file is found after a power cut where its folder was synced too."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


class RedisStreamSink:
    """Appends rows to the stream `nextpage:<kind>`, in entries of up to 1,000 as compressed Arrow, all or none.

    Redis need not be there yet. It keeps about `entries` of a stream: what no reader took before that is lost. What it
    has accepted outlives its own crash where it runs with `appendonly yes` and `appendfsync always`.
    """

    def __init__(self, url: str, *, entries: int = 10_000, timeout_s: float = 2.0) -> None:
        self._redis = _connection(url, timeout_s)
        self._entries = entries

    def __call__(self, kind: str, rows: pa.Table) -> None:
        with self._redis.pipeline(transaction=True) as pipeline:
            for batch in rows.to_batches(max_chunksize=ROWS_OF_AN_ENTRY):
                pipeline.xadd(stream(kind), {ROWS: _packed(batch)}, maxlen=self._entries, approximate=True)
            pipeline.execute()


def drain(url: str, folder: Path, *, group: str = "parquet", entries: int = 100) -> dict[str, int]:
    """Move what the streams hold into Parquet files in `folder`, `entries` a file. How many rows of each kind.

    An entry is acknowledged once its file is on disk. What a reader took and did not acknowledge, because it died, the
    next one takes first; so no row is lost, and some may come twice. Raises redis.RedisError.
    """
    write, moved = ParquetSink(folder), dict.fromkeys(SCHEMAS, 0)
    with _connection(url, timeout_s=10.0) as streams:
        for kind in reversed(SCHEMAS):  # exposures last: a request that is moved has its slate moved
            _ensure_group(streams, kind, group)
            for begin in ("0", ">"):  # taken and not acknowledged, then new
                while taken := _take(streams, kind, group, begin, entries):
                    tables = [_unpacked(fields[ROWS.encode()]) for _, fields in taken if fields]
                    if len(tables) < len(taken):
                        log.warning("events: %d entries of %s were lost unread", len(taken) - len(tables), kind)
                    if tables:
                        rows = pa.concat_tables(tables, promote_options="default")
                        write(kind, rows)
                        moved[kind] += len(rows)
                    streams.xack(stream(kind), group, *(entry for entry, _ in taken))
    return moved


def stream(kind: str) -> str:
    return f"nextpage:{kind}"


def _connection(url: str, timeout_s: float) -> redis.Redis:
    """One that gives up at once: whoever calls knows how long to try again."""
    return redis.Redis.from_url(
        url,
        password=os.environ.get(PASSWORD),
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )


def _ensure_group(streams: redis.Redis, kind: str, group: str) -> None:
    try:
        streams.xgroup_create(stream(kind), group, id="0", mkstream=True)
    except redis.ResponseError as failure:
        if "BUSYGROUP" not in str(failure):
            raise


def _take(
    streams: redis.Redis, kind: str, group: str, begin: str, entries: int
) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """Entries by id; the fields of one that Redis has forgotten are empty."""
    reply: Any = streams.xreadgroup(group, READER, {stream(kind): begin}, count=entries)
    return list(reply[0][1]) if reply else []


def _packed(batch: pa.RecordBatch) -> bytes:
    packed = pa.BufferOutputStream()
    with pa.ipc.new_stream(packed, batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(batch)
    return bytes(packed.getvalue())


def _unpacked(packed: bytes) -> pa.Table:
    return pa.ipc.open_stream(packed).read_all()
