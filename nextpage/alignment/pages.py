"""Pages of the training period as prompts: what came before each, and what was really chosen from it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from nextpage.interactions.log import BEHAVIOURS
from nextpage.interactions.sequences import Sequences

EXPOSED = BEHAVIOURS.index("exposed")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """B pages: the history before each, and its positives D+, the rows of the clicked and ordered items."""

    prompts: Sequences
    positives: list[np.ndarray]  # int [P_b], distinct

    def __len__(self) -> int:
        return len(self.positives)


@dataclass(frozen=True, kw_only=True)
class TrainingPages:
    """The pages that training learns and that have a history, drawn epoch after epoch in new order."""

    sequences: Sequences
    row: np.ndarray  # int64 [P], the slice of each page
    time: np.ndarray  # int64 [P], seconds since 1970
    seed: int

    @staticmethod
    def of(slices: Sequences, seed: int) -> "TrainingPages":
        """Raises ValueError where no page has anything before it."""
        owner = np.repeat(np.arange(len(slices)), np.diff(slices.offset))
        first = np.full(len(slices), np.iinfo(np.int64).max)
        np.minimum.at(first, owner, slices.time)
        learnt = (slices.time >= slices.target_from[owner]) & (slices.time > first[owner])
        learnt &= slices.behaviour > EXPOSED
        row, time = np.unique(np.stack([owner[learnt], slices.time[learnt]]), axis=1)
        if not len(row):
            raise ValueError("no page of the training slices has a history before it: nothing can be asked")
        return TrainingPages(sequences=slices, row=row, time=time, seed=seed)

    def walk(self, size: int, *, start: int, rank: int, processes: int) -> Iterator[Asked]:
        """The share of process `rank` in `size` pages a step, for steps `start`, `start` + 1, …"""
        a_step = min(size, len(self.row))
        if a_step < processes:
            raise ValueError(f"{a_step} prompts a step for {processes} processes: each needs one")
        steps = len(self.row) // a_step
        for epoch in count(start // steps):
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.row))
            for step in range(start % steps if epoch == start // steps else 0, steps):
                yield self.asked(order[step * a_step : (step + 1) * a_step][rank::processes])

    def asked(self, pages: np.ndarray) -> Asked:
        """The pages with these numbers."""
        slices = self.sequences.take(self.row[pages])
        owner = np.repeat(np.arange(len(pages)), np.diff(slices.offset))
        moment = self.time[pages]
        chosen = (slices.time == moment[owner]) & (slices.behaviour > EXPOSED)
        before = slices.select(slices.time < moment[owner])
        return Asked(
            prompts=replace(before, as_of=moment, target_from=moment),
            positives=[np.unique(slices.item[chosen & (owner == row)]) for row in range(len(pages))],
        )
