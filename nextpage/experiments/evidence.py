"""What the gate reads: one row per user, arm and day, and from it the totals of each user.

Whoever joins exposures to feedback writes these columns. All figures are sums over what the user did in that arm on
that day; a metric is a ratio of two such sums over users, or a mean of one.

| column | |
|---|---|
| `user_id`, `arm` | who, and `control` or `treatment` (other arms are left out) |
| `day` | whole days since the experiment began, the first is 1; a day is in when it is over |
| `requests`, `exposures`, `clicks`, `orders`, `value` | answers, items shown, and what came of them |
| `errors`, `fallbacks`, `slow`, `latency_ms` | requests that failed, fell back, took too long; the sum of their times |
| `invalid_items` | items that do not exist or may not be shown, whether shown or left out by the server |
| `duplicates` | items that stood twice in a slate |
| `popularity` | the sum of the shown items' ranks by popularity, from 0 to 1 |
| `pre_<column>` | the same before the experiment began, for CUPED; the same on all rows of a user, 0 where unknown |
| `segment_<name>` | text, known before the experiment began, the same on all rows of a user |

A rule needs only the columns that it names. Percentiles are no sums, so a bound on the 99th percentile of latency is
the share of requests slower than that bound: `slow` per `requests`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nextpage.experiments.assignment import ARMS, TREATMENT

KEYS = ("user_id", "arm", "day")
MEASURES = (
    "requests",
    "exposures",
    "clicks",
    "orders",
    "value",
    "errors",
    "fallbacks",
    "slow",
    "latency_ms",
    "invalid_items",
    "duplicates",
    "popularity",
)
BEFORE = "pre_"
SEGMENT = "segment_"
EVIDENCE_SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("arm", pa.string(), nullable=False),
        pa.field("day", pa.int32(), nullable=False),
        *(pa.field(name, pa.float64(), nullable=False) for name in MEASURES),
    ]
)
"""The columns that a full log gives; `pre_` and `segment_` columns come after these."""


@dataclass(frozen=True, kw_only=True)
class UserDays:
    """Rows of users that were in one arm only, sorted by day.

    `user` int64 [R]: row of the user below; `day` int64 [R]; `values` float64 [R, C]: the measured columns. Of each
    user, `treated` bool [U], `before` float64 [U, B]: `pre_` columns, `segments`: name → strings [U]. `contaminated`:
    users seen in both arms, who are in none of these.
    """

    user: np.ndarray
    day: np.ndarray
    values: np.ndarray
    treated: np.ndarray
    before: np.ndarray
    segments: dict[str, np.ndarray]
    contaminated: int


def read_user_days(
    rows: pa.Table, columns: Sequence[str], *, before: Sequence[str], segments: Sequence[str], through_day: int
) -> UserDays:
    """`columns` and `before`: measures to keep, of the experiment and of the time before; `segments`: names. Rows after
    `through_day` are not read.

    Raises ValueError for a column that is missing, null or infinite, a day before the first, and for what should be one
    value a user and is not.
    """
    earlier, parts = [BEFORE + name for name in before], [SEGMENT + name for name in segments]
    _check(rows, [*columns, *earlier], parts)
    rows = rows.filter(pc.and_(pc.is_in(rows["arm"], pa.array(ARMS)), pc.less_equal(rows["day"], through_day)))
    arms_seen = rows.group_by("user_id").aggregate([("arm", "count_distinct")])
    strays = arms_seen.filter(pc.greater(arms_seen["arm_count_distinct"], 1))["user_id"].combine_chunks()
    rows = rows.filter(pc.invert(pc.is_in(rows["user_id"], strays)))
    rows = rows.sort_by([("day", "ascending"), ("user_id", "ascending")])
    user = rows["user_id"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    first = np.unique(user, return_index=True)[1]  # row of each user

    def of_user(name: str) -> np.ndarray:
        each = rows[name].to_numpy()
        odd = np.flatnonzero(each != each[first][user])
        if len(odd):
            where = rows["user_id"][int(odd[0])].as_py()
            raise ValueError(f"column {name!r} changes between rows of user {where!r}: it must be known beforehand")
        return np.asarray(each[first])

    return UserDays(
        user=user,
        day=rows["day"].to_numpy().astype(np.int64),
        values=_side_by_side([rows[name].to_numpy() for name in columns], len(rows)),
        treated=rows["arm"].to_numpy()[first] == TREATMENT,
        before=_side_by_side([of_user(name) for name in earlier], len(first)),
        segments={name: of_user(part).astype(str) for name, part in zip(segments, parts, strict=True)},
        contaminated=len(strays),
    )


def _check(rows: pa.Table, figures: Sequence[str], texts: Sequence[str]) -> None:
    for name in (*KEYS, *figures, *texts):
        if name not in rows.column_names:
            raise ValueError(f"the evidence has no column {name!r}, which the rule needs: it has {rows.column_names}")
        if rows[name].null_count:
            raise ValueError(f"column {name!r} of the evidence has {rows[name].null_count} nulls: write 0, or no row")
    for name in figures:
        if not pc.all(pc.is_finite(rows[name].cast(pa.float64())), min_count=0).as_py():
            raise ValueError(f"column {name!r} of the evidence has values that are not finite")
    if len(rows) and (earliest := pc.min(rows["day"]).as_py()) < 1:
        raise ValueError(f"the evidence has day {earliest}: the first day of an experiment is 1")


def _side_by_side(columns: Sequence[np.ndarray], rows: int) -> np.ndarray:
    """float64 [R, C]."""
    return np.stack([column.astype(np.float64) for column in columns], axis=1) if columns else np.zeros((rows, 0))
