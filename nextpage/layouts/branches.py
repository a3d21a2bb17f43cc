"""The two kinds of tokens that layouts are made of: a context that is read, and branches that are learnt from it."""

from collections.abc import Sequence

import numpy as np
import torch

from nextpage.interactions.sequences import Sequences
from nextpage.layouts.packed import IGNORED, Packed, Span
from nextpage.tokenizers.vocabulary import PAD, SEP

Columns = dict[str, np.ndarray]


def context_columns(context: Sequences, read: slice, item_tokens: np.ndarray, *, merged: bool) -> Columns:
    """The events `read` of `context`; a page is a block. An event is one token, or L where items are not merged."""
    levels = item_tokens.shape[1]
    tokens = item_tokens[context.item[read]]
    each = 1 if merged else levels
    if not merged:
        plain = np.full((len(tokens) * levels, levels), PAD)
        plain[:, 0] = tokens.reshape(-1)
        tokens = plain
    turned = np.diff(context.page[read], prepend=context.page[read][:1]) != 0
    return {
        "tokens": tokens,
        "is_context": np.ones(len(tokens), dtype=bool),
        "block": np.cumsum(turned).repeat(each),
        "position": np.arange(len(tokens)),
        "time": context.time[read].repeat(each),
        "target": np.full(len(tokens), IGNORED),
        "weight": np.zeros(len(tokens), dtype=np.float32),
    }


def branch_columns(
    codes: np.ndarray, time: np.ndarray, branch: np.ndarray, place: np.ndarray, context: Columns, *, branch_items: int
) -> Columns:
    """L tokens an item: what stands before each of its codes. The first of a branch follows SEP, a later item follows
    the last code of the item before it.

    codes int [E, L], the tokens to be learnt; time int [E]; branch int [E] and place int [E], an item's place in it,
    ascending. A branch holds at most `branch_items`, which is also how many a bin holds.
    """
    items, levels = codes.shape
    slot, slots = _fill_bins(branch, place, branch_items)
    before = np.empty_like(codes)
    before[:, 1:] = codes[:, :-1]
    before[:, 0] = np.where(place == 0, SEP, np.roll(codes[:, -1], 1) if items else SEP)

    seen = np.searchsorted(context["time"], time)
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
    columns["block"][slot] = (len(context["time"]) + branch)[:, None]
    columns["position"][slot] = (seen + place * levels)[:, None] + step
    columns["time"][slot] = time[:, None]
    columns["target"][slot] = codes
    columns["weight"][slot] = 1.0
    flat = {name: column.reshape(-1) for name, column in columns.items()}
    tokens = np.full((slots * levels, levels), PAD)
    tokens[:, 0] = flat["tokens"]
    is_context = np.zeros(slots * levels, dtype=bool)
    return flat | {"tokens": tokens, "is_context": is_context}


def assemble(pairs: Sequence[tuple[Columns, Columns]], *, bin_size: int, merged: bool) -> Packed:
    """Sequences one after another, each a context and its branches."""
    parts = [part for pair in pairs for part in pair]
    starts = np.cumsum([0, *(len(part["time"]) for part in parts)]).tolist()
    spans = [Span(*starts[2 * row : 2 * row + 3]) for row in range(len(pairs))]
    owner = np.repeat(np.arange(len(spans)), [span.stop - span.start for span in spans])
    columns = {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}
    return Packed(
        **columns, sequence=torch.from_numpy(owner), spans=tuple(spans), bin_size=bin_size, merged_context=merged
    )


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
