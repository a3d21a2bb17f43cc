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
    """New clicked or ordered events a slice, about: a slice ends with the page that reaches it."""

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
    """Cut E training events (`user`, `time` int [E] in that order; `positive` bool [E]) into slices.

    Every event is a target of exactly one slice of its user. Cuts lie between moments, so a page is never divided, nor
    are two pages of one second, which no `as_of` could tell apart. A slice ends at each multiple of `stride` positive
    events, and of half of `events` events of any behaviour: so N events hold a slice's targets, and as much context
    again, unless one page alone is longer. O(E).
    """
    if len(user) == 0:
        nothing = np.zeros(0, dtype=np.int64)
        return Slices(user=user, target_from=nothing, as_of=nothing)
    moment = np.flatnonzero(_changes(user) | _changes(time))  # first event of each moment [M]
    moment_user, moment_time = user[moment], time[moment].astype(np.int64)
    new_user = _changes(moment_user)
    positives = np.concatenate([[0], np.cumsum(positive)])[moment]  # in the events before each moment [M]
    user_start = np.flatnonzero(new_user)[np.cumsum(new_user) - 1]  # first moment of each moment's user [M]
    positive_step = (positives - positives[user_start]) // config.stride
    event_step = (moment - moment[user_start]) // (config.events // 2)
    first = np.flatnonzero(new_user | _changes(positive_step) | _changes(event_step))
    last = np.concatenate([first[1:], [len(moment)]]) - 1
    return Slices(user=moment_user[first], target_from=moment_time[first], as_of=moment_time[last] + 1)


def _changes(values: np.ndarray) -> np.ndarray:
    """Where a value differs from the one before it; the first always does."""
    return np.concatenate([[True], values[1:] != values[:-1]])
