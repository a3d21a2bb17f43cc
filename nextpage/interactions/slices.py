"""Training slices: a user's log cut into stretches of new pages, each learnt once with what came before as context.

One example a page would show a long history to the model again for every page; one example a user would cut it off.
A slice is in between: its pages are the targets, and of the last N events before its end the older ones are context.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """How much of a history is kept, and how much of it is new in each training slice."""

    events: int = 512
    """The last events of a history, of any behaviour: N."""
    stride: int = 192
    """New clicked or ordered events a slice: it ends with the page that reaches them."""

    def __post_init__(self) -> None:
        if self.events < 2:
            raise ValueError(f"events is {self.events}: a history needs at least 2")
        if self.stride < 1:
            raise ValueError(f"stride is {self.stride}: a slice needs at least 1 new event")


@dataclass(frozen=True, kw_only=True)
class Slices:
    """S slices by user and time. A user's pages in [target_from, as_of) are the slice's targets."""

    user: np.ndarray  # int [S], as given
    target_from: np.ndarray  # int64 [S], seconds since 1970
    as_of: np.ndarray  # int64 [S], seconds since 1970


def cut_slices(*, user: np.ndarray, time: np.ndarray, positive: np.ndarray, config: FeaturesConfig) -> Slices:
    """Cut E training events (`user`, `time` int [E], in that order; `positive` bool [E]) into slices.

    Every event is a target of exactly one slice of its user. Cuts lie between moments, so a page is never divided, nor
    are two pages of one second, which no `as_of` could tell apart. A slice ends with the moment that brings it to
    `stride` positive events, or to half of `events` events of any behaviour: so N events hold a slice's targets and
    about as much context, unless one moment alone is longer than N. O(E log E).
    """
    if len(user) == 0:
        nothing = np.zeros(0, dtype=np.int64)
        return Slices(user=user, target_from=nothing, as_of=nothing)
    new_user = _changes(user)
    moment = np.flatnonzero(new_user | _changes(time))  # first event of each moment [M]
    first_of_user = np.flatnonzero(new_user[moment])
    next_user = np.append(first_of_user[1:], len(moment))[np.cumsum(new_user[moment]) - 1]
    positives = np.append(0, np.cumsum(positive))[moment]  # positive events before each moment [M]
    following = np.minimum(  # the moment that begins the next slice, for a slice that begins at each moment [M]
        np.searchsorted(positives, positives + config.stride),
        np.searchsorted(moment, moment + config.events // 2),
    )
    following = np.minimum(following, next_user)
    first, begins = [], first_of_user
    while len(begins):  # one round a slice of the longest history
        first.append(begins)
        begins = following[begins[following[begins] < next_user[begins]]]
    start = np.sort(np.concatenate(first))
    last = moment[following[start] - 1]
    start = moment[start]
    return Slices(user=user[start], target_from=time[start].astype(np.int64), as_of=time[last].astype(np.int64) + 1)


def _changes(values: np.ndarray) -> np.ndarray:
    """Where a value differs from the one before it; the first always does."""
    return np.append(True, values[1:] != values[:-1])
