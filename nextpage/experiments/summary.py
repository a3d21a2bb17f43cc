"""The evidence as counts, means and covariances: all that a verdict rests on, small enough to be kept for ever.

For each day, the totals of each user up to its end; their number, means and covariances in each arm are what every
test needs. Users count from the day they were first seen.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from nextpage.experiments.evidence import BEFORE, UserDays, read_user_days
from nextpage.experiments.rule import Rule


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Of M columns over users: means [M] and sample covariances [M, M] (0 below two users)."""

    users: int
    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Look:
    """Both arms at the end of a day."""

    day: int
    control: Moments
    treatment: Moments


@dataclass(frozen=True, kw_only=True)
class Summary:
    """`columns`: of all Moments. `looks`: totals up to the end of each day; `daily`: of each day alone, over the users
    seen on it; `early_late`: columns twice, totals of the days' first half and then of the second.
    `segments`: (segment, value, look at the last day)."""

    through_day: int
    columns: tuple[str, ...]
    looks: tuple[Look, ...]
    daily: tuple[Look, ...]
    early_late: Look
    segments: tuple[tuple[str, str, Look], ...]
    contaminated: int

    @property
    def users(self) -> tuple[int, int]:
        """Users of control and of treatment by the last day."""
        return (self.looks[-1].control.users, self.looks[-1].treatment.users) if self.looks else (0, 0)


def summarise(rows: pa.Table, rule: Rule, through_day: int) -> Summary:
    """Rows in the form of `evidence`, as `rule` asks for them, up to and including the day that ended last.

    Cost: days × users × columns². Raises ValueError where the rows lack what the rule names.
    """
    if not 0 <= through_day <= rule.horizon_days:
        raise ValueError(f"day {through_day} is outside the experiment: its rule ends it on day {rule.horizon_days}")
    measured = tuple(sorted({name for metric in rule.metrics for name in metric.measures}))
    before = tuple(sorted({name for metric in rule.metrics if metric.cuped for name in metric.measures}))
    user_days = read_user_days(rows, measured, before=before, segments=rule.segments, through_day=through_day)
    looks, daily = [], []
    totals, seen = _nothing(user_days)
    halves = np.concatenate([totals, totals], axis=1)
    for day in range(1, through_day + 1):
        today, active = _totals(user_days, day)
        totals, seen = totals + today, seen | active
        late = 2 * day > through_day
        halves[:, late * len(measured) : (late + 1) * len(measured)] += today
        looks.append(_look(day, np.hstack([totals, user_days.before]), user_days.treated, seen))
        daily.append(_look(day, np.hstack([today, user_days.before]), user_days.treated, active))
    return Summary(
        through_day=through_day,
        columns=(*measured, *(BEFORE + name for name in before)),
        looks=tuple(looks),
        daily=tuple(daily),
        early_late=_look(through_day, halves, user_days.treated, seen),
        segments=tuple(
            (
                name,
                value,
                _look(through_day, np.hstack([totals, user_days.before]), user_days.treated, seen & (values == value)),
            )
            for name, values in user_days.segments.items()
            for value in np.unique(values).tolist()
        ),
        contaminated=user_days.contaminated,
    )


def moments(values: np.ndarray) -> Moments:
    """Of float64 [U, M]."""
    users, columns = values.shape
    mean = values.mean(axis=0) if users else np.zeros(columns)
    centred = values - mean
    covariance = centred.T @ centred / (users - 1) if users > 1 else np.zeros((columns, columns))
    return Moments(users=users, mean=_floats(mean), covariance=tuple(_floats(row) for row in covariance))


def _look(day: int, values: np.ndarray, treated: np.ndarray, seen: np.ndarray) -> Look:
    return Look(day=day, control=moments(values[seen & ~treated]), treatment=moments(values[seen & treated]))


def _nothing(user_days: UserDays) -> tuple[np.ndarray, np.ndarray]:
    users = len(user_days.treated)
    return np.zeros((users, user_days.values.shape[1])), np.zeros(users, dtype=bool)


def _totals(user_days: UserDays, day: int) -> tuple[np.ndarray, np.ndarray]:
    """What each user did on the day, [U, C], and who was there, [U]."""
    today, active = _nothing(user_days)
    rows = slice(*np.searchsorted(user_days.day, [day, day + 1]))
    np.add.at(today, user_days.user[rows], user_days.values[rows])
    active[user_days.user[rows]] = True
    return today, active


def _floats(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
