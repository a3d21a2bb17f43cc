"""What was bought or clicked together: the pages of the training period as pairs of page and item."""

from dataclasses import dataclass

import numpy as np

from nextpage.interactions.log import BEHAVIOURS
from nextpage.interactions.sequences import Sequences


@dataclass(frozen=True, kw_only=True)
class PageItems:
    """Distinct (page, item) pairs, sorted by page then item. Pages are numbered from zero without gaps."""

    page: np.ndarray  # int64 [N]
    item: np.ndarray  # int64 [N], row of the catalogue
    items: int  # size of the catalogue

    def popularity(self) -> np.ndarray:
        """In how many pages each item is: int64 [items]."""
        return np.bincount(self.item, minlength=self.items)

    def with_company(self) -> "PageItems":
        """Only pages of two items and more: the others say nothing of what goes with what."""
        keep = np.bincount(self.page)[self.page] > 1
        page = np.unique(self.page[keep], return_inverse=True)[1]
        return PageItems(page=page, item=self.item[keep], items=self.items)


def page_items(histories: Sequences, items: int) -> PageItems:
    """The clicked and ordered items of each page; what was merely exposed does not say that items go together.

    `histories` must end where the training period ends: whatever is in them shapes the codes.
    """
    history = np.repeat(np.arange(len(histories)), np.diff(histories.offset))
    positive = histories.behaviour > BEHAVIOURS.index("exposed")
    triples = np.stack([history, histories.page, histories.item], axis=1)[positive]
    distinct = np.unique(triples, axis=0)
    if not len(distinct):
        return PageItems(page=np.empty(0, np.int64), item=np.empty(0, np.int64), items=items)
    turns = (distinct[1:, :2] != distinct[:-1, :2]).any(axis=1)
    page = np.concatenate([[0], np.cumsum(turns)])
    return PageItems(page=page, item=distinct[:, 2].astype(np.int64), items=items)
