import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nextpage.release import FeatureService
from serving.events import EventLog, EventLogConfig
from serving.metrics import EVENTS
from serving.release_info import ServedRelease
from serving.schema import Slate, SlateItem, SlateRequest
from serving.sinks import ParquetSink

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def slate(request_id: str, *item_ids: str) -> Slate:
    items = tuple(
        SlateItem(item_id=item_id, score=-float(place), position=place, text=None)
        for place, item_id in enumerate(item_ids)
    )
    return Slate(request_id=request_id, items=items, release_name="r", release_hash="h", degraded=False, reason=None)


def feedback(request_id: str, item_id: str, behaviour: str, value: float | None = None) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "item_id": item_id,
        "behaviour": behaviour,
        "time": NOW,
        "value": value,
        "received": NOW,
    }


def count(kind: str, fate: str) -> float:
    return EVENTS.labels(kind, fate)._value.get()


def eventually(condition: Callable[[], bool]) -> bool:
    for _ in range(200):
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_stuck_sink_fills_the_queue_and_what_comes_after_is_dropped_and_counted() -> None:
    free = threading.Event()
    written: list[Any] = []

    def stuck(kind: str, rows: pa.Table) -> None:
        free.wait(30)
        written.extend(rows.to_pylist())

    log = EventLog(stuck, EventLogConfig(capacity=3, rows=1, flush_s=0.01))
    dropped = count("exposures", "dropped")
    assert log.expose(slate("0", "a", "b"), "u")
    assert eventually(lambda: log.waiting == 0)  # the writer holds it, in the stuck sink
    accepted = [log.expose(slate(str(number), "a", "b"), "u") for number in range(1, 6)]
    assert accepted == [True, True, True, False, False]
    assert count("exposures", "dropped") - dropped == 4  # two slates of two items
    free.set()
    assert log.expose(slate("5", "a", "b"), "u") or eventually(lambda: log.expose(slate("5", "a", "b"), "u"))
    log.close()
    assert [row["request_id"] for row in written[::2]] == ["0", "1", "2", "3", "5"]


def test_failing_sink_costs_its_rows_and_not_the_writer() -> None:
    written: list[Any] = []

    def failing(kind: str, rows: pa.Table) -> None:
        if rows["request_id"][0].as_py() == "bad":
            raise OSError("no space left")
        written.extend(rows.to_pylist())

    log = EventLog(failing, EventLogConfig(rows=1, flush_s=0.01, retry_s=0))
    dropped = count("exposures", "dropped")
    log.expose(slate("bad", "a"), "u")
    assert eventually(lambda: count("exposures", "dropped") == dropped + 1)
    log.expose(slate("good", "a"), "u")
    log.close()
    assert [row["request_id"] for row in written] == ["good"]


def test_sink_that_is_down_for_a_while_gets_the_same_rows_again_and_what_came_meanwhile() -> None:
    written: list[Any] = []
    tries: list[Any] = []

    def down_twice(kind: str, rows: pa.Table) -> None:
        tries.append(rows["request_id"].to_pylist())
        if len(tries) < 3:
            raise ConnectionError("refused")
        written.extend(rows.to_pylist())

    log = EventLog(down_twice, EventLogConfig(rows=1, pause_s=0.01))
    dropped = count("exposures", "dropped")
    log.expose(slate("1", "a"), "u")
    log.expose(slate("2", "a"), "u")
    assert eventually(lambda: len(written) == 2)
    log.close()
    assert tries == [["1"], ["1"], ["1"], ["2"]]
    assert count("exposures", "dropped") == dropped


def test_log_that_closes_does_not_wait_for_a_sink_that_is_down() -> None:
    def down(kind: str, rows: pa.Table) -> None:
        raise ConnectionError("refused")

    log = EventLog(down, EventLogConfig(rows=1, retry_s=3600, pause_s=3600))
    dropped = count("exposures", "dropped")
    log.expose(slate("1", "a", "b"), "u")
    log.close(timeout_s=20)
    assert count("exposures", "dropped") == dropped + 2


def test_request_is_logged_with_its_slate_and_without_one_where_it_failed() -> None:
    written: dict[str, list[Any]] = {"requests": [], "exposures": []}
    log = EventLog(lambda kind, rows: written[kind].extend(rows.to_pylist()), EventLogConfig())
    release = ServedRelease(name="own", hash="own", feature_service=FeatureService(name="f", hash="f"))
    popular = replace(slate("2", "a"), degraded=True, reason="no_history")
    for request_id, answered in (("1", slate("1", "a", "b")), ("2", popular), ("3", None)):
        asked = SlateRequest(request_id=request_id, as_of=0, user_id="u")
        log.answer(asked, answered, release, arm="treatment", latency_ms=7.5)
    log.close()
    assert [(row["request_id"], row["outcome"], row["release_hash"]) for row in written["requests"]] == [
        ("1", "served", "h"),
        ("2", "fallback", "h"),
        ("3", "failed", "own"),
    ]
    assert {(row["user_id"], row["arm"], row["latency_ms"]) for row in written["requests"]} == {("u", "treatment", 7.5)}
    assert [(row["request_id"], row["arm"], row["propensity"]) for row in written["exposures"]] == [
        ("1", "treatment", 1.0),
        ("1", "treatment", pytest.approx(math.exp(-1))),
        ("2", "treatment", None),  # popularity has no probability
    ]


def test_files_rotate_by_rows_and_no_unfinished_file_is_left(tmp_path: Path) -> None:
    log = EventLog(ParquetSink(tmp_path), EventLogConfig(rows=4, flush_s=60))
    for number in range(10):
        log.expose(slate(str(number), "a", "b"), None)
    log.close()
    files = list((tmp_path / "exposures").iterdir())
    assert {path.suffix for path in files} == {".parquet"}
    assert sorted(pq.read_metadata(path).num_rows for path in files) == [4, 4, 4, 4, 4]


def test_repeats_are_told_by_request_item_and_behaviour() -> None:
    written: list[Any] = []
    log = EventLog(lambda kind, rows: written.extend(rows.to_pylist()), EventLogConfig(remembered=3))
    rows = [feedback("r", "a", "clicked"), feedback("r", "a", "ordered"), feedback("r", "a", "clicked")]
    assert log.feed_back(rows) == (2, 1)
    assert log.feed_back(rows[:2]) == (0, 2)
    assert log.expose(slate("r", "a"), None)
    assert not log.expose(slate("r", "a"), None)
    log.close()
    assert len(written) == 3
