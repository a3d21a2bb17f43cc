"""`POST /v1/feedback`: what came of a slate, by its request id.

    {"request_id": "…", "events": [{"item_id": "…", "behaviour": "ordered", "time": 1735689600, "value": 3.5}, …]}

`time` (seconds since 1970, now where absent) and `value` are optional. The answer, 202, counts what was accepted, what
was said before and what was dropped because the log is full.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse

from nextpage.interactions.log import BEHAVIOURS
from serving.checks import entries, integer, mapping, number, one_of, parsed, text
from serving.events import EventLog
from serving.schema import CLOCK_SKEW, LONGEST_ID

MOST_EVENTS = 500
REPORTED = BEHAVIOURS[1:]  # the exposure is logged when the slate is answered


def feedback_route(events: EventLog) -> Callable[[Request], Awaitable[JSONResponse]]:
    async def feedback(request: Request) -> JSONResponse:
        rows = parse_feedback(await request.body(), datetime.now(UTC))
        accepted, repeated = events.feed_back(rows)
        dropped = len(rows) - accepted - repeated
        return JSONResponse({"accepted": accepted, "repeated": repeated, "dropped": dropped}, 202)

    return feedback


def parse_feedback(body: bytes, now: datetime) -> list[dict[str, Any]]:
    """Rows of `events.FEEDBACK`. Raises InvalidRequest."""
    said = mapping("the body", parsed("the body", body), ("request_id", "events"))
    request_id = text("request_id", said.get("request_id"), LONGEST_ID)
    latest = int(now.timestamp()) + CLOCK_SKEW
    rows = []
    for place, entry in enumerate(entries("events", said.get("events"), 1, MOST_EVENTS)):
        where = f"events[{place}]"
        event = mapping(where, entry, ("item_id", "behaviour", "time", "value"))
        time = now
        if event.get("time") is not None:
            time = datetime.fromtimestamp(integer(f"{where}.time", event["time"], 0, latest), UTC)
        value = event.get("value")
        rows.append(
            {
                "request_id": request_id,
                "item_id": text(f"{where}.item_id", event.get("item_id"), LONGEST_ID),
                "behaviour": one_of(f"{where}.behaviour", event.get("behaviour"), REPORTED),
                "time": time,
                "value": None if value is None else number(f"{where}.value", value),
                "received": now,
            }
        )
    return rows
