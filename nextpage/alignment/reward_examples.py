"""What the reward model learns from: pages of a log, the history before each, and candidates hard to tell apart.

A policy proposes plausible items, so a reward that only knows good items from random ones would tell it nothing. How
often a candidate was to be drawn is kept with it, so that the draw does not shape what is learnt (`RewardBatch`).

Letters in names and comments: R prompts (pages), N events of the longest history, G candidates, M items of the longest
page, I items of the catalogue.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import count

import numpy as np
import torch
from torch import Tensor

from nextpage.alignment.reward_items import RewardItems
from nextpage.evaluation.counts import page_bounds
from nextpage.interactions.log import BEHAVIOURS
from nextpage.interactions.sequences import Sequences

DAY = 86_400
EXPOSED = BEHAVIOURS.index("exposed")
SORTED_STEPS = 8
"""Steps whose pages are sorted by the length of their histories before they are divided: they pad little."""


@dataclass(frozen=True, kw_only=True)
class ExamplesConfig:
    """What is drawn from a page, and what it counts.

    `ordered`, `clicked` and `exposed` are the labels of a page's items. Of those with a label above zero up to
    `positives` are learnt, of those with zero up to `exposed_only`. Of other items, so many negatives are drawn:
    `own_history` choices of the user's own (repeats that did not happen), `own_categories` items of the categories of
    such choices, by popularity, and `popular` items of any. A draw that hits one of the page's positives is left out.
    """

    ordered: float = 1.0
    clicked: float = 0.5
    exposed: float = 0.0
    positives: int = 8
    exposed_only: int = 2
    own_history: int = 14
    own_categories: int = 4
    popular: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.exposed <= self.clicked <= self.ordered <= 1 or self.ordered == 0:
            raise ValueError(
                f"labels ordered {self.ordered}, clicked {self.clicked}, exposed {self.exposed} must fall in this "
                "order from at most 1 to at least 0: a stronger behaviour is no smaller reward"
            )
        if self.positives < 1:
            raise ValueError(f"positives is {self.positives}: a page is learnt from at least 1 of its items")
        if min(self.exposed_only, self.own_history, self.own_categories) < 0:
            raise ValueError("exposed_only, own_history and own_categories are numbers of draws: use 0 or more")
        if self.popular < 1:
            raise ValueError(f"popular is {self.popular}: at least 1 draw must be able to hit any item")

    @property
    def labels(self) -> np.ndarray:
        """The label of each behaviour, in the order of BEHAVIOURS: float32 [3]."""
        return np.array([getattr(self, name) for name in BEHAVIOURS], dtype=np.float32)

    @property
    def candidates(self) -> int:
        """Places for candidates of a page: G."""
        return self.positives + self.exposed_only + self.own_history + self.own_categories + self.popular


@dataclass(frozen=True, kw_only=True)
class Histories:
    """R prompts of up to N events, in time order."""

    time: Tensor  # int64 [R], the moment that is asked for, seconds since 1970
    item: Tensor  # int64 [R, N], -1 where there is no event
    behaviour: Tensor  # int64 [R, N], place in BEHAVIOURS
    days: Tensor  # float32 [R, N], from the event to that moment
    pages: Tensor  # int64 [R, N], how many pages of the user came after the event's

    def to(self, device: torch.device | str) -> "Histories":
        return Histories(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


@dataclass(frozen=True, kw_only=True)
class RewardBatch:
    """R prompts with G candidates each.

    A candidate is of the page or drawn, so its odds in the batch are its odds of being on the page over `expected`.
    """

    history: Histories
    candidate: Tensor  # int64 [R, G], -1 where there is none
    label: Tensor  # float32 [R, G]
    expected: Tensor  # float32 [R, G], draws as a negative to expect over the chance of being taken as a positive

    def __len__(self) -> int:
        """Places for candidates, empty ones among them."""
        return self.candidate.numel()

    @property
    def padding(self) -> float:
        """The share of empty places."""
        return float((self.candidate < 0).float().mean())

    def to(self, device: torch.device | str) -> "RewardBatch":
        return RewardBatch(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


@dataclass(frozen=True, kw_only=True)
class Pages:
    """P pages that were shown, each with what its user did before: ranges of the events of `sequences`."""

    sequences: Sequences
    history: np.ndarray  # int64 [P], first event of the user's history
    before: np.ndarray  # int64 [P], one past the last event from an earlier second than the page's
    start: np.ndarray  # int64 [P], first event of the page
    stop: np.ndarray  # int64 [P], one past its last

    def __len__(self) -> int:
        return len(self.start)

    @property
    def time(self) -> np.ndarray:
        """int64 [P], seconds since 1970."""
        time: np.ndarray = self.sequences.time[self.start]
        return time

    def take(self, rows: np.ndarray) -> "Pages":
        taken = {field.name: getattr(self, field.name)[rows] for field in fields(self) if field.name != "sequences"}
        return Pages(sequences=self.sequences, **taken)


def pages_to_learn(sequences: Sequences, labels: np.ndarray) -> Pages:
    """The pages from `target_from` on that hold an item with a label (float [3], by behaviour) above zero."""
    start, stop = page_bounds(sequences)
    owner = np.searchsorted(sequences.offset, start, side="right") - 1
    positives = np.append(0, np.cumsum(labels[sequences.behaviour] > 0))
    history, time = sequences.offset[:-1][owner], sequences.time[start]
    new_moment = (start == history) | (time != np.roll(time, 1))
    before = np.maximum.accumulate(np.where(new_moment, start, 0))  # pages of one second do not see each other
    pages = Pages(sequences=sequences, history=history, before=before, start=start, stop=stop)
    return pages.take(np.flatnonzero((time >= sequences.target_from[owner]) & (positives[stop] > positives[start])))


def padded(start: np.ndarray, stop: np.ndarray, most: int | None = None) -> np.ndarray:
    """The last `most` places of each range [start, stop): int64 [R, longest, at least 1], −1 at the end of a row."""
    start = start if most is None else np.maximum(start, stop - most)
    place = start[:, None] + np.arange(max(1, (stop - start).max(initial=0)))
    return np.where(place < stop[:, None], place, -1)


def histories_at(sequences: Sequences, place: np.ndarray, time: np.ndarray) -> Histories:
    """The events at `place` int [R, N] (−1 at the end of a row: none) as seen at `time` int [R]."""
    there, page = place >= 0, _at(sequences.page, place)
    newest = np.take_along_axis(page, np.maximum(there.sum(axis=1, keepdims=True) - 1, 0), axis=1)
    days = (time[:, None] - _at(sequences.time, place)) / DAY
    return Histories(
        time=torch.from_numpy(time.astype(np.int64)),
        item=torch.from_numpy(np.where(there, _at(sequences.item, place), -1).astype(np.int64)),
        behaviour=torch.from_numpy(_at(sequences.behaviour, place).astype(np.int64)),
        days=torch.from_numpy(np.where(there, days, 0.0).astype(np.float32)),
        pages=torch.from_numpy(np.where(there, newest - page, 0)),
    )


class Draws:
    """Draws negatives for pages, and knows how often each item is to be expected."""

    def __init__(self, items: RewardItems, config: ExamplesConfig) -> None:
        self.items, self.config = items, config
        weight = items.popularity + 1e-3  # nothing is impossible
        self.share = weight / weight.sum()
        self._exposed_share = items.exposed / max(items.exposed.sum(), 1)
        self._by_category = np.argsort(items.category, kind="stable")
        self._below = np.append(0.0, np.cumsum(self.share[self._by_category]))  # share of the items before each place
        sizes = np.bincount(items.category)
        self._edges = self._below[np.append(0, np.cumsum(sizes))]  # share of the categories before each
        self._category_share = np.diff(self._edges)

    def examples(self, pages: Pages, draw: np.random.Generator, events: int) -> RewardBatch:
        """One batch of all `pages`, each with its user's last `events` events before it."""
        log, config, row = pages.sequences, self.config, np.arange(len(pages))[:, None]
        history, shown = padded(pages.history, pages.before, events), padded(pages.start, pages.stop)
        label = np.where(shown >= 0, config.labels[_at(log.behaviour, shown)], -1.0)
        shown_item = np.where(shown >= 0, _at(log.item, shown), -1)
        taken = np.concatenate(
            [_choose(label > 0, config.positives, draw), _choose(label == 0, config.exposed_only, draw)], axis=1
        )
        chosen = (history >= 0) & (_at(log.behaviour, history) > EXPOSED)
        first = np.argsort(~chosen, axis=1, kind="stable")
        own = np.take_along_axis(np.where(chosen, _at(log.item, history), -1), first, axis=1)
        drawn = self._negatives(own, np.where(label > 0, shown_item, -1), draw)
        candidate = np.concatenate([np.where(taken >= 0, shown_item[row, taken], -1), drawn], axis=1)
        labels = np.concatenate([np.where(taken >= 0, label[row, taken], 0.0), np.zeros(drawn.shape)], axis=1)
        chance = np.minimum(1.0, config.positives / np.maximum((label > 0).sum(axis=1, keepdims=True), 1))
        return RewardBatch(
            history=histories_at(log, history, pages.time),
            candidate=torch.from_numpy(candidate.astype(np.int64)),
            label=torch.from_numpy(labels.astype(np.float32)),
            expected=torch.from_numpy((self._expected(candidate, own) / chance).astype(np.float32)),
        )

    def _negatives(self, own: np.ndarray, good: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        """Items or −1, int [R, drawn], for what the users chose before, `own` [R, N], and the pages' positives, `good`
        [R, M], both −1 at the end of a row."""
        config, rows = self.config, len(own)
        places = draw.random((rows, config.own_history + config.own_categories))
        places *= (own >= 0).sum(axis=1, keepdims=True)
        event = np.take_along_axis(own, places.astype(np.int64), axis=1)
        repeat, company = event[:, : config.own_history], event[:, config.own_history :]
        low, high = (self._edges[self.items.category[company] + above] for above in (0, 1))
        near = np.where(company >= 0, self._at_share(low + (high - low) * draw.random(company.shape)), -1)
        drawn = np.concatenate([repeat, near, self._at_share(draw.random((rows, config.popular)))], axis=1)
        return np.where((drawn[:, :, None] == good[:, None, :]).any(axis=2), -1, drawn)

    def _at_share(self, share: np.ndarray) -> np.ndarray:
        """The item that holds each place in [0, 1) where all items lie side by side, each as wide as its share."""
        place = np.searchsorted(self._below, share, side="right") - 1
        item: np.ndarray = self._by_category[np.minimum(place, len(self.share) - 1)]
        return item

    def _expected(self, candidate: np.ndarray, own: np.ndarray) -> np.ndarray:
        """How often each candidate is to be drawn as a negative, as far as `own` tells: float [R, G].

        What a page exposes is not foretold: any page is taken to expose what all pages do.
        """
        config, category, share = self.config, self.items.category, self.share[candidate]
        there = (own >= 0)[:, None, :]
        same = (candidate[:, :, None] == own[:, None, :]) & there
        alike = (category[candidate][:, :, None] == category[own][:, None, :]) & there
        within = share / self._category_share[category[candidate]]
        events = np.maximum(there.sum(axis=2), 1)
        drawn = (config.own_history * same.sum(axis=2) + config.own_categories * within * alike.sum(axis=2)) / events
        expected: np.ndarray = drawn + config.popular * share + config.exposed_only * self._exposed_share[candidate]
        return expected


def _at(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """`values` [N] at `place`; anything where place is −1."""
    return values[place] if len(values) else np.zeros(place.shape, values.dtype)


def _choose(mask: np.ndarray, number: int, draw: np.random.Generator) -> np.ndarray:
    """Up to `number` different columns of each row where `mask` [R, M] holds, in random order: int [R, number], −1."""
    order = np.argsort(np.where(mask, draw.random(mask.shape), 2.0), axis=1)[:, :number]
    found = np.where(np.take_along_axis(mask, order, axis=1), order, -1)
    return np.pad(found, ((0, 0), (0, number - found.shape[1])), constant_values=-1)


@dataclass(frozen=True, kw_only=True)
class RewardBatches:
    """An endless walk over pages, epoch after epoch in new order; a step has about `batch_pages` of them."""

    pages: Pages
    draws: Draws
    events: int
    batch_pages: int
    seed: int

    def walk(self, *, start: int, rank: int, processes: int) -> Iterator[RewardBatch]:
        """The batches of steps `start`, `start` + 1, … for one process: its share of each step's pages."""
        for step, rows in enumerate(self._rows()):
            if step < start:
                continue
            if len(rows) < processes:
                raise ValueError(
                    f"step {step} has {len(rows)} pages for {processes} processes: raise batch_pages, "
                    f"which is {self.batch_pages}"
                )
            draw = np.random.default_rng((self.seed, step, rank))
            yield self.draws.examples(self.pages.take(rows[rank::processes]), draw, self.events)

    def _rows(self) -> Iterator[np.ndarray]:
        """The pages of every step."""
        pages = len(self.pages)
        if not pages:
            raise ValueError("no page has an item with a label above zero: does the training split hold any pages?")
        steps = max(1, round(pages / self.batch_pages))
        length = np.minimum(self.pages.before - self.pages.history, self.events)
        for epoch in count():
            draw = np.random.default_rng((self.seed, epoch))
            parts = np.array_split(draw.permutation(pages), steps)
            for first in range(0, steps, SORTED_STEPS):
                some = parts[first : first + SORTED_STEPS]
                together = np.concatenate(some)
                by_length = np.array_split(together[np.argsort(length[together], kind="stable")], len(some))
                yield from (by_length[part] for part in draw.permutation(len(some)))
