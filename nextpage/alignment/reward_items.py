"""What the reward model knows of the catalogue: vectors, categories, and how often each item was taken by when."""

from dataclasses import dataclass

import numpy as np

from nextpage.alignment.catalogue import Catalogue
from nextpage.interactions.log import BEHAVIOURS
from nextpage.interactions.sequences import Sequences

WEEK = 7 * 86_400
EXPOSED = BEHAVIOURS.index("exposed")


@dataclass(frozen=True, kw_only=True)
class RewardItems:
    """I items, by row, over the W weeks of training. Memory is 4 · W · I bytes: 6 MB for a year of 27,000 items."""

    vectors: np.ndarray  # float32 [I, V], frozen
    category: np.ndarray  # int64 [I]
    taken: np.ndarray  # int32 [W + 1, I], clicks and orders before the end of each week; first row 0
    origin: int  # seconds since 1970, the start of the first week
    exposed: np.ndarray  # int64 [I], how often each was shown and neither clicked nor ordered

    @staticmethod
    def of(catalogue: Catalogue, slices: Sequences) -> "RewardItems":
        """`slices` of training: every event of the log is the target of one of them, so each is counted once."""
        owner = np.repeat(np.arange(len(slices)), np.diff(slices.offset))
        target = slices.time >= slices.target_from[owner]
        counted = target & (slices.behaviour > EXPOSED)
        item, time = slices.item[counted], slices.time[counted]
        origin = int(time.min(initial=np.iinfo(np.int64).max)) if len(time) else 0
        week = (time - origin) // WEEK
        weekly = np.zeros((int(week.max(initial=0)) + 2, len(catalogue.category)), dtype=np.int32)
        np.add.at(weekly, (week + 1, item), 1)
        return RewardItems(
            vectors=catalogue.vectors,
            category=catalogue.category.astype(np.int64),
            taken=np.cumsum(weekly, axis=0, dtype=np.int32),
            origin=origin,
            exposed=np.bincount(slices.item[target & ~counted], minlength=len(catalogue.category)),
        )

    @property
    def popularity(self) -> np.ndarray:
        """How often each item was taken in all of training: int64 [I]."""
        popularity: np.ndarray = self.taken[-1].astype(np.int64)
        return popularity
