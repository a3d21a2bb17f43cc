"""What the gate reads: one row per user, arm and day, and from it the totals of each user.

Whoever joins exposures to feedback writes these columns. All figures are sums over what the user did in that arm on
that day; a metric is a ratio of two such sums over users, or a mean of one.

| column | |
|---|---|
| `user_id`, `arm` | who, and `control` or `treatment` (other arms are left out) |
| `day` | whole days since the experiment began, the first is 1; a day is in when it is over |
| `requests`, `exposures`, `clicks`, `orders`, `value` | answers, items shown, and what came of them |
| `errors`, `fallbacks`, `slow`, `latency_ms` | requests that failed, fell back, took too long; the sum of their times |
| `invalid_items`, `duplicates` | items shown that do not exist, or stood twice in a slate |
| `popularity` | the sum of the shown items' ranks by popularity, from 0 to 1 |
| `pre_<column>` | the same before the experiment began, for CUPED; the same on all rows of a user, 0 where unknown |
| `segment_<name>` | text, known before the experiment began, the same on all rows of a user |

A rule needs only the columns that it names. Percentiles are no sums, so a bound on the 99th percentile of latency is
the share of requests slower than that bound: `slow` per `requests`.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nextpage.experiments.assignment import ARMS

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

    `user` int64 [R]: row of the user's table; `day` int64 [R]; `values` float64 [R, C]: the measured columns.
    Of each user, `treated` bool [U], `before` float64 [U, C]: the same columns before the experiment (0 where the table
    has none), `segments`: name → strings [U]. `contaminated`: users seen in both arms, who are in none of these.
    """

    columns: tuple[str, ...]
    user: np.ndarray
    day: np.ndarray
    values: np.ndarray
    treated: np.ndarray
    before: np.ndarray
    segments: dict[str, np.ndarray]
    contaminated: int


def read_user_days(
    rows: pa.Table, columns: tuple[str, ...], *, before: tuple[str, ...] = (), segments: tuple[str, ...] = ()
) -> UserDays:
    """`columns`: measures to keep; `before`: those of them whose `pre_` column must be there; `segments`: names.

    Raises ValueError for a column that is missing, null or infinite, a day before the first, and for what should be one
    value a user and is not.
    """
    _check(rows, (*columns, *(BEFORE + name for name in before)), tuple(SEGMENT + name for name in segments))
    rows = rows.filter(pc.is_in(rows["arm"], pa.array(ARMS))).sort_by([("day", "ascending"), ("user_id", "ascending")])
    ids = rows["user_id"].combine_chunks().dictionary_encode()
    user, users = ids.indices.to_numpy().astype(np.int64), len(ids.dictionary)
    treated_row = pc.equal(rows["arm"], ARMS[1]).to_numpy()
    once = np.zeros((users, 2), dtype=bool)
    once[user, treated_row.astype(np.int64)] = True
    clean = np.asarray(~once.all(axis=1))
    kept = clean[user]
    renumbered = np.cumsum(clean) - 1
    first = np.full(users, -1)
    first[user[::-1]] = np.arange(len(user))[::-1]
    first = first[clean]

    def of_user(name: str) -> np.ndarray:
        each = rows[name].to_numpy()
        odd = np.flatnonzero(each[kept] != each[first][renumbered[user[kept]]])
        if len(odd):
            where = rows["user_id"][int(np.flatnonzero(kept)[odd[0]])].as_py()
            raise ValueError(f"column {name!r} changes between rows of user {where!r}: it must be known beforehand")
        return np.asarray(each[first])

    earlier = np.zeros((len(first), len(columns)))
    for name in before:
        earlier[:, columns.index(name)] = of_user(BEFORE + name)
    return UserDays(
        columns=columns,
        user=renumbered[user[kept]],
        day=rows["day"].to_numpy()[kept].astype(np.int64),
        values=_matrix(rows, columns)[kept],
        treated=once[clean, 1],
        before=earlier,
        segments={name: of_user(SEGMENT + name).astype(str) for name in segments},
        contaminated=int((~clean).sum()),
    )


def _check(rows: pa.Table, figures: tuple[str, ...], texts: tuple[str, ...]) -> None:
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


def _matrix(rows: pa.Table, columns: tuple[str, ...]) -> np.ndarray:
    """float64 [R, C]."""
    if not columns:
        return np.zeros((len(rows), 0))
    return np.stack([rows[name].cast(pa.float64()).to_numpy() for name in columns], axis=1)
