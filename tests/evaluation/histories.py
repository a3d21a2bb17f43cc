"""Tiny histories to test on, one event list a user."""

import numpy as np

from nextpage.evaluation.truth import Truth
from nextpage.interactions.sequences import Sequences

DAY = 86_400


def histories(*users: list[tuple[int, int, int]], as_of_day: int = 100) -> Sequences:
    """Each user is a list of (page, day, item)."""
    events = [event for user in users for event in user]
    sizes = [len(user) for user in users]
    as_of = np.full(len(users), as_of_day * DAY, dtype=np.int64)
    return Sequences(
        user_id=np.array([f"u{row}" for row in range(len(users))], dtype=object),
        as_of=as_of,
        target_from=as_of,
        offset=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        item=np.array([item for _, _, item in events], dtype=np.int32),
        behaviour=np.full(len(events), 2, dtype=np.int8),
        page=np.array([page for page, _, _ in events], dtype=np.int64),
        time=np.array([day * DAY for _, day, _ in events], dtype=np.int64),
    )


def truth(*requests: list[int]) -> Truth:
    sizes = [len(request) for request in requests]
    return Truth(
        offset=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        item=np.array([item for request in requests for item in request], dtype=np.int32),
    )
