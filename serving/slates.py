"""From requests to slates: the model where there is a history to read, popularity where there is none.

Plain and synchronous; the predictor runs it in its model thread, the command line calls it as it is.
"""

from collections.abc import Sequence

import numpy as np

from nextpage.decoding.filters import ItemFilter
from nextpage.decoding.served_catalogue import ServedCatalogue
from nextpage.recommender import Query, Recommendation, Recommender
from serving import schema
from serving.catalogue import Catalogue
from serving.metrics import INVALID_ITEMS
from serving.schema import Slate, SlateItem, SlateRequest

WALKED = 4096
"""Popular items that are held against a filter at a time."""


class SlateMaker:
    """A loaded release that answers requests, from the catalogue that it has at the moment."""

    def __init__(self, recommender: Recommender) -> None:
        self.recommender = recommender
        self.catalogue = Catalogue(recommender.catalogue)

    def swap(self, served: ServedCatalogue) -> None:
        """Answer from another catalogue of the release. May be called from any thread: what comes after is answered
        from the new one, a batch that runs keeps the one it began with. O(I) before the swap, nothing during it."""
        self.catalogue = Catalogue(served)

    def slates(self, requests: Sequence[SlateRequest]) -> list[Slate]:
        """One slate a request, in order; all that the model answers in one batch of it."""
        catalogue = self.catalogue  # once: it may be swapped meanwhile
        allowed = [catalogue.allowed(request) for request in requests]
        reasons = [_reason(request, catalogue) for request in requests]
        asked = [place for place, reason in enumerate(reasons) if reason is None]
        queries = [_history_query(requests[place], allowed[place]) for place in asked]
        found = dict(zip(asked, self.recommender.recommend(queries, catalogue.served), strict=True))
        return [
            self._slate(request, found.get(place), allowed[place], reasons[place], catalogue)
            for place, request in enumerate(requests)
        ]

    def _slate(
        self,
        request: SlateRequest,
        found: list[Recommendation] | None,
        allowed: ItemFilter | None,
        reason: str | None,
        catalogue: Catalogue,
    ) -> Slate:
        if found is None:
            ranked, invalid = _popular(request.k, allowed, catalogue), 0
        else:
            ranked = _valid(found[: request.k], allowed, catalogue)
            invalid = min(len(found), request.k) - len(ranked)
        INVALID_ITEMS.inc(invalid)
        items = tuple(
            SlateItem(item_id=catalogue.item_ids[row], score=score, position=position, text=catalogue.texts[row])
            for position, (row, score) in enumerate(ranked)
        )
        return Slate(
            request_id=request.request_id,
            items=items,
            release_name=self.recommender.release_name,
            release_hash=self.recommender.release_hash,
            catalogue_hash=catalogue.served.hash,
            degraded=reason is not None,
            reason=reason,
            invalid_items=invalid,
        )


def _reason(request: SlateRequest, catalogue: Catalogue) -> str | None:
    """Why the model cannot answer, None where it can."""
    if request.fallback is not None:
        return request.fallback
    if request.history is None or not request.history.items:
        return schema.NO_HISTORY
    if not any(item_id in catalogue.served.row for item_id in request.history.items):
        return schema.UNKNOWN_ITEMS
    return None


def _popular(k: int, allowed: ItemFilter | None, catalogue: Catalogue) -> list[tuple[int, float]]:
    popular, kept = catalogue.served.popular, list[int]()
    for start in range(0, len(popular), WALKED):
        some = popular[start : start + WALKED]
        kept += (some if allowed is None else some[allowed.holds(some)]).tolist()
        if len(kept) >= k:
            break
    return [(row, 0.0 - place) for place, row in enumerate(kept[:k])]


def _valid(found: list[Recommendation], allowed: ItemFilter | None, catalogue: Catalogue) -> list[tuple[int, float]]:
    """The search promises distinct, known, allowed items. What breaks the promise is left out."""
    known = [item for item in found if catalogue.served.row.get(item.item_id) == item.row < len(catalogue)]
    held = [True] * len(known) if allowed is None else allowed.holds(np.array([item.row for item in known], dtype=int))
    kept: dict[int, float] = {}
    for item, may_be_shown in zip(known, held, strict=True):
        if may_be_shown:
            kept.setdefault(item.row, float(item.score))
    return list(kept.items())


def _history_query(request: SlateRequest, allowed: ItemFilter | None) -> Query:
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
