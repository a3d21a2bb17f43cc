"""Parquet files, and streams of a real Redis."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from serving import sinks
from serving.events import SCHEMAS
from serving.sinks import ParquetSink, RedisStreamSink, drain, make_sink, stream
from tests.serving.redis_server import RedisServer, redis_server

__all__ = ["redis_server"]
NOW = datetime(2026, 1, 1, 12, 30, 15, 123456, tzinfo=UTC)
VALUES: dict[Any, list[Any]] = {
    pa.string(): ["r", "", "Łódź\0\n"],
    pa.float64(): [0.1, -1e300, 5e-324],
    pa.int32(): [0, -1, 2**31 - 1],
    pa.bool_(): [True, False, True],
    pa.timestamp("us", tz="UTC"): [NOW, NOW.replace(year=1970), NOW.replace(year=9999)],
}


def rows_of(kind: str, count: int = 3) -> pa.Table:
    """All kinds of values that a column may hold, null where it may be null."""
    schema = SCHEMAS[kind]
    columns = {
        field.name: [*VALUES[field.type][:2], None if field.nullable else VALUES[field.type][2]] for field in schema
    }
    return pa.table(
        {name: [values[row % 3] for row in range(count)] for name, values in columns.items()}, schema=schema
    )


def held(folder: Path, kind: str) -> pa.Table:
    files = sorted((folder / kind).glob("*.parquet"))
    return pa.concat_tables([pq.read_table(file) for file in files]) if files else SCHEMAS[kind].empty_table()


def die(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_place_of_the_log_names_its_sink(tmp_path: Path) -> None:
    assert isinstance(make_sink(tmp_path), ParquetSink)
    assert isinstance(make_sink(str(tmp_path)), ParquetSink)
    assert isinstance(make_sink("redis://127.0.0.1:1/0"), RedisStreamSink)  # which need not be there


def test_failed_write_leaves_no_file_that_a_reader_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(rows: pa.Table, file: Any) -> None:
        file.write(b"PAR1")
        raise OSError("no space left on device")

    sink = ParquetSink(tmp_path)
    monkeypatch.setattr(pq, "write_table", half)
    with pytest.raises(OSError, match="no space"):
        sink("feedback", rows_of("feedback"))
    assert list((tmp_path / "feedback").glob("*.parquet")) == []


def test_streams_give_back_the_tables_that_went_in_and_once(tmp_path: Path, redis_server: RedisServer) -> None:
    sink = RedisStreamSink(redis_server.url)
    for kind in SCHEMAS:
        sink(kind, rows_of(kind, 2_500))
    assert redis_server.client().xlen(stream("feedback")) == 3  # entries of 1,000 rows
    assert drain(redis_server.url, tmp_path) == dict.fromkeys(SCHEMAS, 2_500)
    for kind in SCHEMAS:
        assert held(tmp_path, kind).equals(rows_of(kind, 2_500))
    sink("feedback", rows_of("feedback", 2_001))
    assert drain(redis_server.url, tmp_path, entries=1) == {"exposures": 0, "feedback": 2_001, "requests": 0}


def test_flush_is_accepted_whole_or_not_at_all(redis_server: RedisServer) -> None:
    redis_server.client().set(stream("feedback"), "no stream")
    with pytest.raises(redis.ResponseError):
        RedisStreamSink(redis_server.url)("feedback", rows_of("feedback"))
    client = redis_server.client()
    client.delete(stream("feedback"))
    client.config_set("maxmemory", 1)
    with pytest.raises(redis.RedisError):
        RedisStreamSink(redis_server.url)("feedback", rows_of("feedback", 2_500))
    client.config_set("maxmemory", 0)
    assert client.xlen(stream("feedback")) == 0


@pytest.mark.parametrize("dies", ["before its file is written", "before it acknowledges"])
def test_reader_that_dies_loses_no_row(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, dies: str
) -> None:
    RedisStreamSink(redis_server.url)("feedback", rows_of("feedback"))
    with monkeypatch.context() as patch:
        patch.setattr(*((pq, "write_table") if "file" in dies else (redis.Redis, "xack")), die)
        with pytest.raises(KeyboardInterrupt):
            drain(redis_server.url, tmp_path)
    RedisStreamSink(redis_server.url)("feedback", rows_of("feedback", 1))
    assert drain(redis_server.url, tmp_path)["feedback"] == 4
    copies = 1 if "file" in dies else 2  # which attribution counts once
    assert held(tmp_path, "feedback").num_rows == 3 * copies + 1
    assert drain(redis_server.url, tmp_path)["feedback"] == 0


def test_a_request_that_is_moved_has_its_slate_moved_though_servers_write_meanwhile(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, take = RedisStreamSink(redis_server.url), sinks._take
    waiting = iter(["requests"])

    def taken(streams: redis.Redis, kind: str, *asked: Any) -> Any:
        if kind == "requests" and next(
            waiting, None
        ):  # just before its stream is read; as the log does, the slate first
            sink("exposures", rows_of("exposures"))
            sink("requests", rows_of("requests"))
        return take(streams, kind, *asked)

    monkeypatch.setattr(sinks, "_take", taken)
    assert drain(redis_server.url, tmp_path) == {"exposures": 3, "feedback": 0, "requests": 3}


def test_the_password_of_the_environment_opens_a_redis_whose_url_has_none(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_server.client().config_set("requirepass", "secret")
    with pytest.raises(redis.AuthenticationError):
        drain(redis_server.url, tmp_path)
    monkeypatch.setenv("NEXTPAGE_REDIS_PASSWORD", "secret")
    RedisStreamSink(redis_server.url)("feedback", rows_of("feedback"))
    assert drain(redis_server.url, tmp_path)["feedback"] == 3


def test_stream_is_bounded_and_what_was_forgotten_unread_is_said(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sink = RedisStreamSink(redis_server.url, entries=10)
    for _ in range(100):
        sink("feedback", rows_of("feedback"))
    client = redis_server.client()
    assert 10 <= client.xlen(stream("feedback")) < 30

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", die)
        with pytest.raises(KeyboardInterrupt):
            drain(redis_server.url, tmp_path)
    taken = client.xlen(stream("feedback"))
    client.xtrim(stream("feedback"), maxlen=4, approximate=False)
    with caplog.at_level(logging.WARNING):
        assert drain(redis_server.url, tmp_path)["feedback"] == 4 * len(rows_of("feedback"))
    assert f"{taken - 4} entries of feedback were lost unread" in caplog.text


def test_redis_that_is_not_there_is_an_error_at_once(tmp_path: Path, redis_server: RedisServer) -> None:
    redis_server.kill()
    with pytest.raises(redis.ConnectionError):
        RedisStreamSink(redis_server.url)("feedback", rows_of("feedback"))
    with pytest.raises(redis.ConnectionError):
        drain(redis_server.url, tmp_path)
