"""Parts of the requests, or of the items, that are looked at on their own."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from nextpage.evaluation.counts import page_bounds
from nextpage.interactions.sequences import Sequences

HISTORY_EDGES = (0, 16, 64, 256, 1024)
COLD_USER_PAGES = 5
COLD_ITEM_EVENTS = 10
HEAD_SHARE = 0.8
MOST_GROUPS = 12


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Requests, and where `items` is set only such items in their truth (a request left with none drops out)."""

    axis: str
    value: str
    requests: np.ndarray  # bool [R]
    items: np.ndarray | None = None  # bool [I]


def by_history_length(prompts: Sequences) -> list[Slice]:
    """By events in the user's whole history."""
    length = np.diff(prompts.offset)
    upper = (*HISTORY_EDGES[1:], None)
    return [
        Slice(
            axis="history length",
            value=f"{low} events or more" if high is None else f"{low} to {high - 1} events",
            requests=(length >= low) & (length < (np.inf if high is None else high)),
        )
        for low, high in zip(HISTORY_EDGES, upper, strict=True)
    ]


def by_user_training(user_id: np.ndarray, training: Sequences) -> list[Slice]:
    """Cold users are those with fewer than COLD_USER_PAGES pages in training."""
    start, _ = page_bounds(training)
    pages = np.histogram(start, bins=training.offset)[0] if len(training) else np.zeros(0)
    warm = np.isin(user_id.astype(str), training.user_id[pages >= COLD_USER_PAGES].astype(str))
    return [
        Slice(axis="user", value=f"cold: fewer than {COLD_USER_PAGES} training pages", requests=~warm),
        Slice(axis="user", value=f"{COLD_USER_PAGES} training pages or more", requests=warm),
    ]


def by_item_training(requests: int, popularity: np.ndarray) -> list[Slice]:
    """By how often training met the item. The head: the fewest items that make HEAD_SHARE of all training events."""
    order = np.argsort(-popularity, kind="stable")
    before = np.cumsum(popularity[order]) - popularity[order]
    head = np.zeros(len(popularity), dtype=bool)
    head[order] = before < HEAD_SHARE * popularity.sum()
    every = np.ones(requests, dtype=bool)
    cold = popularity < COLD_ITEM_EVENTS
    return [
        Slice(axis="item", value=f"head: {HEAD_SHARE:.0%} of training events", requests=every, items=head),
        Slice(axis="item", value="long tail: the rest", requests=every, items=~head),
        Slice(axis="item", value=f"cold: fewer than {COLD_ITEM_EVENTS} training events", requests=every, items=cold),
    ]


def by_attribute(user_id: np.ndarray, users: Path) -> list[Slice]:
    """By each column of users.parquet with 2 to MOST_GROUPS values; users without a value are 'unknown'."""
    table = pq.read_table(users)
    place = {user: row for row, user in enumerate(table["user_id"].to_pylist())}
    slices = []
    for column in table.column_names[1:]:
        values = [value if value is not None else "unknown" for value in table[column].to_pylist()]
        group = np.array([values[place[user]] if user in place else "unknown" for user in user_id], dtype=object)
        groups = sorted(set(group))
        if 2 <= len(groups) <= MOST_GROUPS:
            slices += [Slice(axis=column, value=value, requests=group == value) for value in groups]
    return slices
