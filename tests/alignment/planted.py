"""A log whose truth is known: every user buys from one category, and is shown what others buy."""

import numpy as np

from nextpage.alignment.catalogue import Catalogue
from nextpage.interactions.log import BEHAVIOURS
from nextpage.interactions.sequences import Sequences

DAY = 86_400
START = 1_700_000_000
CATEGORIES, ITEMS = 6, 120
ORDERED, CLICKED, EXPOSED = (BEHAVIOURS.index(name) for name in ("ordered", "clicked", "exposed"))


def catalogue() -> Catalogue:
    """Item i is of category i % CATEGORIES; vectors are random, so they tell nothing of it."""
    vectors = np.random.default_rng(7).normal(size=(ITEMS, 12)).astype(np.float32)
    return Catalogue(
        vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        category=np.arange(ITEMS) % CATEGORIES,
        price=np.zeros(ITEMS, dtype=np.float32),
        first_seen=np.full(ITEMS, START),
    )


def one_category_each(
    users: int = 60, *, pages: int = 14, learnt_from: int = 3, seed: int = 0, orders_only: bool = False
) -> Sequences:
    """A page every other day: three ordered and one clicked item of the user's category, one exposed of another.

    The pages from number `learnt_from` on are targets.
    """
    draw = np.random.default_rng(seed)
    behaviour = [ORDERED] * 4 if orders_only else [ORDERED] * 3 + [CLICKED, EXPOSED]
    shape = (users, pages, len(behaviour))
    own = draw.permuted(np.tile(np.arange(ITEMS // CATEGORIES), (users, pages, 1)), axis=2)[:, :, : len(behaviour)]
    item = own * CATEGORIES + (np.arange(users) % CATEGORIES)[:, None, None]
    if not orders_only:
        item[:, :, -1] += draw.integers(1, CATEGORIES, (users, pages))
        item[:, :, -1] %= ITEMS
    time = START + 2 * DAY * np.arange(pages) + 60 * np.arange(users)[:, None]
    return Sequences(
        user_id=np.array([f"u{user}" for user in range(users)], dtype=object),
        as_of=time[:, -1] + 1,
        target_from=time[:, learnt_from],
        offset=np.arange(users + 1) * pages * len(behaviour),
        item=item.reshape(-1).astype(np.int32),
        behaviour=np.tile(np.array(behaviour, dtype=np.int8), users * pages),
        page=np.broadcast_to(np.arange(pages)[None, :, None], shape).reshape(-1).astype(np.int64),
        time=np.broadcast_to(time[:, :, None], shape).reshape(-1).astype(np.int64),
    )


def shuffled(sequences: Sequences, seed: int = 0) -> Sequences:
    """The same pages with any items: nothing can be foretold."""
    item = np.random.default_rng(seed).integers(0, ITEMS, len(sequences.item)).astype(np.int32)
    return Sequences(**{**vars(sequences), "item": item})
