"""GenRec's layout: histories as merged items, pages as branches; page-wise, point-wise, or a mix of the two."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nextpage.interactions.log import BEHAVIOURS
from nextpage.interactions.sequences import Sequences
from nextpage.layouts.packed import IGNORED, Packed, Span
from nextpage.tokenizers.vocabulary import PAD, SEP

EXPOSED = BEHAVIOURS.index("exposed")
Columns = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class PagesConfig:
    """Of the pages, the share `page_wise` is learnt item after item in one branch (GenRec's page-wise: 1); each item of
    the others is a branch of its own (point-wise: 0)."""

    page_wise: float = 0.5
    page_items: int = 10  # of one branch: a longer page becomes several
    exposed_items: int = 0  # of a page, as targets after the clicked and ordered ones
    context_behaviours: tuple[str, ...] = ("clicked", "ordered")

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
    parts, spans, start = [], [], 0
    for row in range(len(sequences)):
        read = slice(context.offset[row], context.offset[row + 1])
        whole = slice(sequences.offset[row], sequences.offset[row + 1])
        targets = _target_events(sequences, whole, int(sequences.target_from[row]), config, draws[row])
        last = targets["time"].max(initial=0)  # what comes at or after the last target is seen by none
        read = slice(read.start, read.start + int(np.searchsorted(context.time[read], last)))
        encoded = _context(context, read, item_tokens)
        branches = _branches(targets, encoded, item_tokens, config)
        parts += [encoded, branches]
        middle = start + len(encoded["time"])
        spans.append(Span(start, middle, middle + len(branches["time"])))
        start = spans[-1].stop
    owner = np.repeat(np.arange(len(spans)), [span.stop - span.start for span in spans])
    columns = {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}
    bin_size = config.page_items * item_tokens.shape[1]
    return Packed(**columns, sequence=torch.from_numpy(owner), spans=tuple(spans), bin_size=bin_size)


def _context(context: Sequences, read: slice, item_tokens: np.ndarray) -> Columns:
    """One token an event; its page is its block."""
    count = read.stop - read.start
    turned = np.diff(context.page[read], prepend=context.page[read][:1]) != 0
    return {
        "tokens": item_tokens[context.item[read]],
        "is_context": np.ones(count, dtype=bool),
        "block": np.cumsum(turned),
        "position": np.arange(count),
        "time": context.time[read],
        "target": np.full(count, IGNORED),
        "weight": np.zeros(count, dtype=np.float32),
    }


def _target_events(
    sequences: Sequences, whole: slice, target_from: int, config: PagesConfig, draw: np.random.Generator
) -> Columns:
    """The items to learn, page by page, strongest first and in random order where equal, each with its branch."""
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
    return {"item": sequences.item[whole][learnt], "time": time[learnt], "branch": branch, "place": rank % branch_items}


def _branches(targets: Columns, context: Columns, item_tokens: np.ndarray, config: PagesConfig) -> Columns:
    """L tokens an item: what stands before each of its codes. The first of a branch follows SEP, a later item follows
    the last code of the item before it."""
    levels, items = item_tokens.shape[1], len(targets["item"])
    slot, slots = _fill_bins(targets["branch"], targets["place"], config.page_items)
    codes = item_tokens[targets["item"]]
    before = np.empty_like(codes)
    before[:, 1:] = codes[:, :-1]
    before[:, 0] = np.where(targets["place"] == 0, SEP, np.roll(codes[:, -1], 1) if items else SEP)

    seen = np.searchsorted(context["time"], targets["time"])
    step = np.arange(levels)
    columns: Columns = {
        "tokens": np.full((slots, levels), PAD),
        "block": -1 - np.arange(slots * levels).reshape(slots, levels),
        "position": np.zeros((slots, levels), dtype=np.int64),
        "time": np.zeros((slots, levels), dtype=np.int64),
        "target": np.full((slots, levels), IGNORED),
        "weight": np.zeros((slots, levels), dtype=np.float32),
    }
    columns["tokens"][slot] = before
    columns["block"][slot] = (len(context["time"]) + targets["branch"])[:, None]
    columns["position"][slot] = (seen + targets["place"] * levels)[:, None] + step
    columns["time"][slot] = targets["time"][:, None]
    columns["target"][slot] = codes
    columns["weight"][slot] = 1.0
    flat = {name: column.reshape(-1) for name, column in columns.items()}
    tokens = np.full((slots * levels, levels), PAD)
    tokens[:, 0] = flat["tokens"]
    is_context = np.zeros(slots * levels, dtype=bool)
    return flat | {"tokens": tokens, "is_context": is_context}


def _fill_bins(branch: np.ndarray, place: np.ndarray, capacity: int) -> tuple[np.ndarray, int]:
    """Slot of each item such that a branch lies in one bin of `capacity` slots: first fit, longest first."""
    lengths = np.bincount(branch)
    first = np.empty(len(lengths), dtype=np.int64)
    room: list[int] = []  # left in each bin
    open_from = 0  # the bins before are full
    for number in np.argsort(-lengths, kind="stable"):
        at = next((b for b in range(open_from, len(room)) if room[b] >= lengths[number]), len(room))
        if at == len(room):
            room.append(capacity)
        first[number] = at * capacity + capacity - room[at]
        room[at] -= int(lengths[number])
        while open_from < len(room) and room[open_from] == 0:
            open_from += 1
    return first[branch] + place, len(room) * capacity


def _rank(group: np.ndarray) -> np.ndarray:
    """Place of each element in its run of equal elements."""
    start = np.maximum.accumulate(np.where(np.diff(group, prepend=group[:1] - 1) != 0, np.arange(len(group)), 0))
    rank: np.ndarray = np.arange(len(group)) - start
    return rank
