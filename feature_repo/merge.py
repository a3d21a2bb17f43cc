"""New events join a history: a union that forgets order of arrival and repetition."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from nextpage.interactions.log import BEHAVIOURS

History = dict[str, list]
"""The lists of feature_repo.service.HISTORY_FIELDS, of one length, oldest event first."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """One shown item, with the strongest thing known to have been done with it."""

    user_id: str
    item_id: str
    behaviour: str
    """One of BEHAVIOURS."""
    timestamp: datetime
    """When the page was requested; with a time zone."""
    page: int | None = None
    """The page's number. None: the second of the request takes its place, which later pages exceed, and which lies
    above the numbers that sources give to pages."""

    def __post_init__(self) -> None:
        if self.behaviour not in BEHAVIOURS:
            raise ValueError(f"behaviour {self.behaviour!r} of item {self.item_id!r} is not one of {BEHAVIOURS}")
        if self.timestamp.tzinfo is None:
            raise ValueError(f"timestamp {self.timestamp} of item {self.item_id!r} has no time zone: add one")


def merge(history: History | None, events: Iterable[Event], *, last: int) -> History:
    """The history with the events in their places in time, cut to its `last` events.

    An item shown twice on one page is one event, with the stronger behaviour and the earlier time: so an event that
    comes again changes nothing, a click joins the exposure that it followed, and any order of arrival ends alike
    (inside a page, the order of arrival stays).
    """
    shown: dict[tuple[int, str], tuple[int, int]] = {}  # (page, item) -> (time, behaviour)
    known = zip(*(history[name] for name in _COLUMNS), strict=True) if history else ()
    for page, item, time, behaviour in (*known, *(_row(event) for event in events)):
        earlier, stronger = shown.get((page, item), (time, behaviour))
        shown[page, item] = (min(time, earlier), max(behaviour, stronger))
    rows = sorted(((page, item, *seen) for (page, item), seen in shown.items()), key=lambda row: (row[2], row[0]))[
        -last:
    ]
    return {name: [row[place] for row in rows] for place, name in enumerate(_COLUMNS)}


_COLUMNS = ("history_page", "history_item", "history_time", "history_behaviour")


def _row(event: Event) -> tuple[int, str, int, int]:
    time = int(event.timestamp.timestamp())
    page = time if event.page is None else event.page
    return page, event.item_id, time, BEHAVIOURS.index(event.behaviour)
