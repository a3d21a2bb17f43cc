"""Requests as users will send them, to be answered before any does."""

from collections.abc import Iterator, Sequence
from itertools import count

from serving.schema import MOST_ITEMS, History, SlateRequest

LENGTHS = (1, 32, 128, 512)
"""Events of a history."""
ORDERED = 2


def first_requests(item_ids: Sequence[str], widest: int) -> Iterator[list[SlateRequest]]:
    """Batches, lone and wide, of short and long histories, with and without a filter, with as many items as can be
    asked for. As far as there are items no two histories begin alike, so that a prompt cache knows none of them."""
    number = count()
    for events in LENGTHS:
        for wide in (1, 1, widest, 1, widest):
            yield [_request(item_ids, events, next(number), filtered=place % 2 == 0) for place in range(wide)]
    yield [_request(item_ids, LENGTHS[-1], next(number), filtered=False, k=MOST_ITEMS)]


def _request(item_ids: Sequence[str], events: int, number: int, *, filtered: bool, k: int = 10) -> SlateRequest:
    items = [item_ids[(number + event) % len(item_ids)] for event in range(events)]
    return SlateRequest(
        request_id="warm-up",
        as_of=1,
        history=History(items=tuple(items), behaviours=(ORDERED,) * events, pages=(0,) * events, times=(0,) * events),
        k=k,
        seen="exclude" if filtered else "include",
    )
