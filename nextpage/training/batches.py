"""Batches of whole histories with about equally many tokens, the same whatever the number of processes."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

from nextpage.interactions.sequences import Sequences
from nextpage.layouts.packed import Packed
from nextpage.layouts.pages import PagesConfig, lay_out, prompt_events


@dataclass(frozen=True, kw_only=True)
class Batches:
    """An endless walk over histories to learn from, epoch after epoch in new order."""

    sequences: Sequences
    item_tokens: np.ndarray  # int64 [I, L]
    layout: PagesConfig
    batch_tokens: int
    seed: int

    def walk(self, *, start: int, rank: int, processes: int) -> Iterator[Packed]:
        """The batches of steps `start`, `start` + 1, … for one process: every `processes`-th history of each."""
        for step, (epoch, rows) in enumerate(self._rows()):
            if step < start:
                continue
            if len(rows) < processes:
                raise ValueError(
                    f"step {step} has {len(rows)} histories for {processes} processes: raise batch_tokens, "
                    f"which is {self.batch_tokens}"
                )
            own = rows[rank::processes]
            draws = [np.random.default_rng((self.seed, epoch, row)) for row in own]
            yield lay_out(self.sequences.take(own), self.item_tokens, self.layout, draws)

    def _rows(self) -> Iterator[tuple[int, np.ndarray]]:
        """(epoch, rows of the histories) of every step."""
        tokens = self._tokens()
        if not tokens.any():
            raise ValueError("no history has a page to learn from: does the training split hold any pages?")
        for epoch in count():
            order = np.random.default_rng((self.seed, epoch)).permutation(np.flatnonzero(tokens))
            total = tokens.sum()
            steps = max(1, round(total / self.batch_tokens))  # of equal size, so that none is a small remainder
            step = (np.cumsum(tokens[order]) - 1) * steps // total
            for rows in np.split(order, np.flatnonzero(np.diff(step)) + 1):
                yield epoch, rows

    def _tokens(self) -> np.ndarray:
        """About how many tokens each history makes, 0 where it has nothing to learn: int64 [S]."""
        read = prompt_events(self.sequences, self.layout)
        owner = np.repeat(np.arange(len(read)), np.diff(read.offset))
        learnt = np.bincount(owner[read.time >= read.target_from[owner]], minlength=len(read))
        levels = self.item_tokens.shape[1]
        return np.where(learnt > 0, np.diff(read.offset) + learnt * levels, 0)
