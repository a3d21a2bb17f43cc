"""From requests to slates: the model where there is a history to read, popularity where there is none.

Plain and synchronous; the predictor runs it in its model thread, the command line calls it as it is.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nextpage.recommender import Query, Recommendation, Recommender
from serving import schema
from serving.catalogue import Catalogue
from serving.metrics import INVALID_ITEMS
from serving.schema import Slate, SlateItem, SlateRequest

Allowed = np.ndarray[Any, Any] | None  # bool [I]; None allows all


class SlateMaker:
    """A loaded release that answers requests."""

    def __init__(self, recommender: Recommender) -> None:
        self.recommender = recommender
        self.catalogue = Catalogue(recommender.items)

    def warm_up(self, batch: int) -> None:
        """Answer from one item and from a batch, so that no user waits for what a first call sets up."""
        popular = [self.catalogue.item_ids[row] for row in self.recommender.popular[:32]]
        for count in (1, batch):
            count_of_history = [max(1, len(popular) - place) for place in range(count)]
            self.recommender.recommend([_query(popular[:events], k=10) for events in count_of_history])

    def slates(self, requests: Sequence[SlateRequest]) -> list[Slate]:
        """One slate a request, in order; all that the model answers in one batch of it."""
        allowed = [self.catalogue.allowed(request) for request in requests]
        reasons = [self._reason(request) for request in requests]
        asked = [place for place, reason in enumerate(reasons) if reason is None]
        found = self.recommender.recommend([self._query(requests[place], allowed[place]) for place in asked])
        by_place = dict(zip(asked, found, strict=True))
        return [
            self._slate(request, by_place[place] if reason is None else None, allowed[place], reason)
            for place, (request, reason) in enumerate(zip(requests, reasons, strict=True))
        ]

    def _reason(self, request: SlateRequest) -> str | None:
        """Why the model cannot answer, None where it can."""
        if request.fallback is not None:
            return request.fallback
        if request.history is None or not request.history.items:
            return schema.NO_HISTORY
        if not any(item_id in self.catalogue.row_of for item_id in request.history.items):
            return schema.UNKNOWN_ITEMS
        return None

    def _query(self, request: SlateRequest, allowed: Allowed) -> Query:
        assert request.history is not None
        return Query(
            item_ids=list(request.history.items),
            behaviours=list(request.history.behaviours),
            pages=list(request.history.pages),
            times=list(request.history.times),
            as_of=request.as_of,
            k=request.k,
            allowed=allowed,
        )

    def _slate(
        self, request: SlateRequest, found: list[Recommendation] | None, allowed: Allowed, reason: str | None
    ) -> Slate:
        ranked = self._popular(request.k, allowed) if found is None else self._valid(found, request.k, allowed)
        invalid = 0 if found is None else min(len(found), request.k) - len(ranked)
        INVALID_ITEMS.inc(invalid)
        items = tuple(
            SlateItem(
                item_id=self.catalogue.item_ids[row],
                score=score,
                position=position,
                text=self.catalogue.texts[row],
            )
            for position, (row, score) in enumerate(ranked)
        )
        return Slate(
            request_id=request.request_id,
            items=items,
            release_name=self.recommender.release_name,
            release_hash=self.recommender.release_hash,
            degraded=reason is not None,
            reason=reason,
            invalid_items=invalid,
        )

    def _popular(self, k: int, allowed: Allowed) -> list[tuple[int, float]]:
        popular = self.recommender.popular
        if allowed is not None:
            popular = popular[allowed[popular]]
        return [(int(row), 0.0 - place) for place, row in enumerate(popular[:k])]

    def _valid(self, found: list[Recommendation], k: int, allowed: Allowed) -> list[tuple[int, float]]:
        """The search promises distinct, known, allowed items. What breaks the promise is left out."""
        kept: dict[int, float] = {}
        for item in found[:k]:
            known = self.catalogue.row_of.get(item.item_id) == item.row
            if known and item.row not in kept and (allowed is None or allowed[item.row]):
                kept[item.row] = float(item.score)
        return list(kept.items())


def _query(item_ids: list[str], k: int) -> Query:
    """A history of orders, an event a second."""
    count = len(item_ids)
    return Query(
        item_ids=item_ids,
        behaviours=[2] * count,
        pages=list(range(count)),
        times=list(range(1, count + 1)),
        as_of=count + 1,
        k=k,
        allowed=None,
    )
