"""What a request may say and what an answer holds, whatever protocol carries them.

A request names a user, whose history the feature store holds, or brings the history itself. Times are whole seconds
since 1970. Every bound is a constant here; `docs/serving.md` lists them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nextpage.interactions.log import BEHAVIOURS
from serving.checks import integer, integers, mapping, one_of, strings, text
from serving.errors import InvalidRequest

MOST_ITEMS = 200  # k
MOST_HISTORY = 4096
MOST_EXCLUDED = 1000
MOST_STOCK = 50_000
MOST_ATTRIBUTES = 8
MOST_VALUES = 100  # of one attribute
LONGEST_ID = 128
CLOCK_SKEW = 24 * 3600  # seconds that `as_of` may lie ahead of this machine's clock
SEEN = ("include", "exclude")

# In these words an answer says why it is not the model's.
NO_HISTORY = "no_history"
UNKNOWN_USER = "unknown_user"
UNKNOWN_ITEMS = "unknown_items"
STORE_FAILED = "feature_store_unavailable"
STORE_SLOW = "feature_store_timeout"
REASONS = (NO_HISTORY, UNKNOWN_USER, UNKNOWN_ITEMS, STORE_FAILED, STORE_SLOW)


@dataclass(frozen=True, kw_only=True)
class History:
    """N events in time order, as the feature store keeps them."""

    items: tuple[str, ...]
    behaviours: tuple[int, ...]  # places in BEHAVIOURS
    pages: tuple[int, ...]
    times: tuple[int, ...]

    def before(self, moment: int) -> "History":
        """The events strictly before `moment`."""
        keep = [event for event, time in enumerate(self.times) if time < moment]
        if len(keep) == len(self.times):
            return self
        return History(
            items=tuple(self.items[event] for event in keep),
            behaviours=tuple(self.behaviours[event] for event in keep),
            pages=tuple(self.pages[event] for event in keep),
            times=tuple(self.times[event] for event in keep),
        )


@dataclass(frozen=True, kw_only=True)
class SlateRequest:
    """One slate that is asked for. With a `fallback` reason it is answered from popularity."""

    request_id: str
    as_of: int
    user_id: str | None = None
    history: History | None = None
    k: int = 10
    exclude: tuple[str, ...] = ()
    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    stock: tuple[str, ...] | None = None
    seen: str = "include"
    fallback: str | None = None


@dataclass(frozen=True, kw_only=True)
class SlateItem:
    item_id: str
    score: float  # log-probability; minus the place in the ranking where the slate is degraded
    position: int  # from 0
    text: str | None


@dataclass(frozen=True, kw_only=True)
class Slate:
    """The answer to one request, best item first. `reason` is one of REASONS where it is degraded; `invalid_items`: how
    many the search gave that may not be shown, and were left out; `catalogue_hash`: "" where the items are the
    release's own."""

    request_id: str
    items: tuple[SlateItem, ...]
    release_name: str
    release_hash: str
    degraded: bool
    reason: str | None
    invalid_items: int = 0
    catalogue_hash: str = ""


FIELDS = ("user_id", "history", "as_of", "k", "exclude", "filters", "stock", "seen", "request_id", "fallback")
HISTORY_FIELDS = ("items", "behaviours", "pages", "times")


def parse_request(raw: object, *, now: int, request_id: str, where: str = "") -> SlateRequest:
    """Check one request as it came, `request_id` being used where it brings none.

    `where` goes before the field in messages ("instances[3]."). Raises InvalidRequest on the first field at fault.
    """
    said = mapping(where.rstrip(".") or "the request", raw, FIELDS)
    as_of = now
    if said.get("as_of") is not None:
        as_of = integer(where + "as_of", said["as_of"], 0, now + CLOCK_SKEW)
    user_id = said.get("user_id")
    if user_id is not None:
        user_id = text(where + "user_id", user_id, LONGEST_ID)
    history = None
    if said.get("history") is not None:
        history = _parse_history(said["history"], as_of, where + "history")
    if user_id is None and history is None:
        raise InvalidRequest(f"{where}user_id and {where}history are both absent: give one of them")
    stock = said.get("stock")
    fallback = said.get("fallback")
    return SlateRequest(
        request_id=text(where + "request_id", _given(said, "request_id", request_id), LONGEST_ID),
        as_of=as_of,
        user_id=user_id,
        history=history,
        k=integer(where + "k", said.get("k", 10), 1, MOST_ITEMS),
        exclude=strings(where + "exclude", _given(said, "exclude", []), MOST_EXCLUDED, LONGEST_ID),
        filters=_parse_filters(_given(said, "filters", {}), where + "filters"),
        stock=None if stock is None else strings(where + "stock", stock, MOST_STOCK, LONGEST_ID),
        seen=one_of(where + "seen", said.get("seen", "include"), SEEN),
        fallback=None if fallback is None else one_of(where + "fallback", fallback, REASONS),
    )


def _parse_history(raw: object, as_of: int, where: str) -> History:
    """Absent behaviours are orders; absent times are the seconds before `as_of`; absent pages follow the times."""
    said = mapping(where, raw, HISTORY_FIELDS)
    items = strings(where + ".items", said.get("items"), MOST_HISTORY, LONGEST_ID)
    count = len(items)
    names = strings(where + ".behaviours", _given(said, "behaviours", [BEHAVIOURS[-1]] * count), MOST_HISTORY, 32)
    behaviours = tuple(
        BEHAVIOURS.index(one_of(f"{where}.behaviours[{event}]", name, BEHAVIOURS)) for event, name in enumerate(names)
    )
    times = integers(
        where + ".times", _given(said, "times", range(max(0, as_of - count), as_of)), MOST_HISTORY, 0, as_of - 1
    )
    pages = integers(where + ".pages", _given(said, "pages", _pages(times)), MOST_HISTORY, 0, 2**53)
    for name, values in (("behaviours", behaviours), ("times", times), ("pages", pages)):
        if len(values) != count:
            raise InvalidRequest(f"{where}.{name} has {len(values)} values, {where}.items has {count}")
    for name, values in (("times", times), ("pages", pages)):
        for event in range(1, count):
            if values[event] < values[event - 1]:
                raise InvalidRequest(
                    f"{where}.{name}[{event}] is {values[event]}, before the {values[event - 1]} ahead of it: "
                    "give events in time order, the latest last"
                )
    return History(items=items, behaviours=behaviours, pages=pages, times=times)


def _given(said: Mapping[str, Any], field: str, default: Any) -> Any:
    """Null is absent; anything else, an empty string too, is what was said."""
    value = said.get(field)
    return default if value is None else value


def _pages(times: tuple[int, ...]) -> list[int]:
    """Events of one second are one page."""
    page = -1
    pages = []
    for event, time in enumerate(times):
        page += event == 0 or time != times[event - 1]
        pages.append(page)
    return pages


def _parse_filters(raw: object, where: str) -> dict[str, tuple[str, ...]]:
    said = mapping(where, raw)
    if len(said) > MOST_ATTRIBUTES:
        raise InvalidRequest(f"{where} names {len(said)} attributes, at most {MOST_ATTRIBUTES} are taken")
    return {
        name: strings(f"{where}.{name}", values, MOST_VALUES, LONGEST_ID, fewest=1) for name, values in said.items()
    }


def request_to_json(request: SlateRequest) -> dict[str, Any]:
    """What `parse_request` reads: the form in which a transformer passes a request on to its predictor."""
    history = request.history
    return {
        "request_id": request.request_id,
        "as_of": request.as_of,
        "user_id": request.user_id,
        "history": history
        and {
            "items": history.items,
            "behaviours": [BEHAVIOURS[code] for code in history.behaviours],
            "pages": history.pages,
            "times": history.times,
        },
        "k": request.k,
        "exclude": request.exclude,
        "filters": request.filters,
        "stock": request.stock,
        "seen": request.seen,
        "fallback": request.fallback,
    }


def slate_to_json(slate: Slate) -> dict[str, Any]:
    said = {
        "request_id": slate.request_id,
        "items": [
            {"item_id": item.item_id, "score": item.score, "position": item.position, "text": item.text}
            for item in slate.items
        ],
        "release": {"name": slate.release_name, "hash": slate.release_hash},
        "degraded": slate.degraded,
        "reason": slate.reason,
        "invalid_items": slate.invalid_items,
    }
    return said | ({"catalogue": {"hash": slate.catalogue_hash}} if slate.catalogue_hash else {})


def slate_from_json(said: Mapping[str, Any]) -> Slate:
    return Slate(
        request_id=said["request_id"],
        items=tuple(SlateItem(**item) for item in said["items"]),
        release_name=said["release"]["name"],
        release_hash=said["release"]["hash"],
        degraded=said["degraded"],
        reason=said["reason"],
        invalid_items=said["invalid_items"],
        catalogue_hash=said.get("catalogue", {}).get("hash", ""),
    )
