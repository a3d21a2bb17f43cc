"""Real pages replayed as load: a request a visit, on time, and the feedback of a simulated user to whatever answers.

The load is open: a visit has its moment, and is late only where `in_flight` requests are under way already. Nothing is
tried twice: a request that fails is counted by how it failed, as its user would have seen it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from threading import Event
from urllib.parse import urlsplit

import httpx
import orjson

from nextpage.experiments.replay import ORDERED, Page, UserConfig, react
from serving.wire import ARM_HEADER

Edge = Callable[[str], str | None]  # user → the arm's header; None: no header


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One request: `due_s` after the replay begins, by a user who wants what is on the page."""

    request_id: str
    page: Page
    due_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """`longest_s`: after which no further request is sent. `timeout_s` of one request."""

    model_name: str = "nextpage"
    k: int = 10
    in_flight: int = 32
    timeout_s: float = 10.0
    longest_s: float = 600.0


@dataclass(kw_only=True)
class Replayed:
    """What a replay came to. `failed`, `feedback_failed`: requests by status or by the name of what went wrong;
    `answered`: by release; `orders`, `clicks`: of simulated users; `late_s`: the most that a request was late."""

    sent: int = 0
    answered: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    feedback_failed: Counter[str] = field(default_factory=Counter)
    orders: int = 0
    clicks: int = 0
    late_s: float = 0.0
    seconds: float = 0.0


async def replay(
    visits: Iterable[Visit],
    url: str,
    edge: Edge,
    users: UserConfig,
    config: ReplayConfig,
    *,
    stop: Event | None = None,
    done: Replayed | None = None,
) -> Replayed:
    """Send the visits in their order to a server on this machine, until they, the time or `stop` end it; `done` counts
    meanwhile. Requests that are under way at the end are waited for.

    The feedback bears the arm of its request, so that the same server hears it. Raises ValueError for a `url` that is
    not on 127.0.0.1.
    """
    if urlsplit(url).hostname != "127.0.0.1":
        raise ValueError(f"the replay is a load for this machine alone, {url} is not on 127.0.0.1")
    done, queue = done or Replayed(), iter(visits)
    limits = httpx.Limits(max_connections=config.in_flight, max_keepalive_connections=config.in_flight)
    plain = {"verify": False, "trust_env": False}  # nothing here leaves the machine
    async with httpx.AsyncClient(base_url=url, timeout=config.timeout_s, limits=limits, **plain) as client:
        began = time.monotonic()

        async def worker() -> None:
            for visit in _due(queue, began, config.longest_s, stop):
                await asyncio.sleep(max(0.0, began + visit.due_s - time.monotonic()))
                if stop is not None and stop.is_set():
                    return
                done.late_s = max(done.late_s, time.monotonic() - began - visit.due_s)
                await _visit(client, visit, edge(visit.page.user_id), users, config, done)

        await asyncio.gather(*(worker() for _ in range(config.in_flight)))
    done.seconds = time.monotonic() - began
    return done


def _due(queue: Iterator[Visit], began: float, longest_s: float, stop: Event | None) -> Iterator[Visit]:
    for visit in queue:
        if (stop is not None and stop.is_set()) or max(visit.due_s, time.monotonic() - began) > longest_s:
            return
        yield visit


async def _visit(
    client: httpx.AsyncClient, visit: Visit, arm: str | None, users: UserConfig, config: ReplayConfig, done: Replayed
) -> None:
    headers = {"content-type": "application/json"} | ({ARM_HEADER: arm} if arm is not None else {})
    page, done.sent = visit.page, done.sent + 1
    asked = {
        "request_id": visit.request_id,
        "user_id": page.user_id,
        "as_of": page.as_of,
        "k": config.k,
        "history": {"items": page.items, "behaviours": page.behaviours, "pages": page.pages, "times": page.times},
    }
    path, body = f"/v1/models/{config.model_name}:predict", orjson.dumps({"instances": [asked]})
    answer = await _posted(client, path, body, headers, done.failed)
    if answer is None:
        return
    try:
        (slate,) = orjson.loads(answer)["predictions"]
        release, shown = slate["release"]["name"], [item["item_id"] for item in slate["items"]]
    except (ValueError, LookupError, TypeError):
        done.failed["no slate"] += 1
        return
    done.answered[release] += 1
    reactions = react(visit.request_id, shown, page.wanted, users)
    if reactions:
        done.orders += sum(reaction.behaviour == ORDERED for reaction in reactions)
        done.clicks += len(reactions)
        said = {"request_id": visit.request_id, "events": [asdict(reaction) for reaction in reactions]}
        await _posted(client, "/v1/feedback", orjson.dumps(said), headers, done.feedback_failed)


async def _posted(
    client: httpx.AsyncClient, path: str, body: bytes, headers: dict[str, str], failed: Counter[str]
) -> bytes | None:
    """The body of a good answer; None, counted in `failed`, for any other."""
    try:
        answer = await client.post(path, content=body, headers=headers)
    except httpx.HTTPError as failure:
        failed[type(failure).__name__] += 1
        return None
    if not answer.is_success:
        failed[f"HTTP {answer.status_code}"] += 1
        return None
    return answer.content
