"""GenRec's layout: histories as merged items, pages as branches; page-wise, point-wise, or a mix of the two."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nextpage.interactions.log import BEHAVIOURS
from nextpage.interactions.sequences import Sequences
from nextpage.layouts.branches import assemble, branch_columns, context_columns
from nextpage.layouts.packed import Packed

EXPOSED = BEHAVIOURS.index("exposed")


@dataclass(frozen=True, kw_only=True)
class PagesConfig:
    """Of the pages, the share `page_wise` is learnt item after item in one branch (GenRec's page-wise: 1); each item of
    the others is a branch of its own (point-wise: 0)."""

    page_wise: float = 0.5
    page_items: int = 10  # of one branch: a longer page becomes several
    exposed_items: int = 0  # of a page, as targets after the clicked and ordered ones
    context_behaviours: tuple[str, ...] = ("clicked", "ordered")
    merged: bool = True  # GenRec Eq 5: an item of the context is one token, not one a code

    def __post_init__(self) -> None:
        if not 0 <= self.page_wise <= 1:
            raise ValueError(f"page_wise is {self.page_wise}, but it is a share: use a value from 0 to 1")
        if self.page_items < 1:
            raise ValueError(f"page_items is {self.page_items}: a branch holds at least one item")


def prompt_events(sequences: Sequences, config: PagesConfig) -> Sequences:
    """The part of each history that the model reads."""
    read = [BEHAVIOURS.index(name) for name in config.context_behaviours]
    return sequences.select(np.isin(sequences.behaviour, read))


def lay_out(
    sequences: Sequences, item_tokens: np.ndarray, config: PagesConfig, draws: Sequence[np.random.Generator]
) -> Packed:
    """Histories as packed tokens to learn from. item_tokens int64 [I, L]: the tokens of each item.

    A history's own generator in `draws` decides which of its pages are page-wise and the order of equally strong items
    in a page: so it is laid out the same whatever stands beside it. Lay out anew each epoch.
    """
    context = prompt_events(sequences, config)
    pairs = []
    for row in range(len(sequences)):
        read = slice(context.offset[row], context.offset[row + 1])
        whole = slice(sequences.offset[row], sequences.offset[row + 1])
        items, time, branch, place = _target_events(
            sequences, whole, int(sequences.target_from[row]), config, draws[row]
        )
        last = time.max(initial=0)  # what comes at or after the last target is seen by none
        read = slice(read.start, read.start + int(np.searchsorted(context.time[read], last)))
        encoded = context_columns(context, read, item_tokens, merged=config.merged)
        branches = branch_columns(item_tokens[items], time, branch, place, encoded, branch_items=config.page_items)
        pairs.append((encoded, branches))
    return assemble(pairs, bin_size=config.page_items * item_tokens.shape[1], merged=config.merged)


def _target_events(
    sequences: Sequences, whole: slice, target_from: int, config: PagesConfig, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The items to learn, page by page, strongest first and in random order where equal: their rows and times, the
    branch of each and its place there."""
    time, page, behaviour = sequences.time[whole], sequences.page[whole], sequences.behaviour[whole]
    learnt = np.flatnonzero(time >= target_from)
    learnt = learnt[np.lexsort((draw.random(len(learnt)), -behaviour[learnt], page[learnt]))]
    nth_exposed = _rank(page[learnt] * 2 + (behaviour[learnt] == EXPOSED))
    learnt = learnt[(behaviour[learnt] != EXPOSED) | (nth_exposed < config.exposed_items)]
    _, pages = np.unique(page[learnt], return_inverse=True)
    rank = _rank(pages)
    is_page_wise = (draw.random(pages.max(initial=-1) + 1) < config.page_wise)[pages]
    branch_items = np.where(is_page_wise, config.page_items, 1)
    branch = np.unique(np.stack([pages, rank // branch_items]), axis=1, return_inverse=True)[1]
    return sequences.item[whole][learnt], time[learnt], branch, rank % branch_items


def _rank(group: np.ndarray) -> np.ndarray:
    """Place of each element in its run of equal elements."""
    start = np.maximum.accumulate(np.where(np.diff(group, prepend=group[:1] - 1) != 0, np.arange(len(group)), 0))
    rank: np.ndarray = np.arange(len(group)) - start
    return rank
