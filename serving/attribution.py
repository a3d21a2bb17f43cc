"""From the log of what was shown and what came of it to the evidence that a gate reads.

An event of feedback counts for the item and the slate that it names, if it came about within the *window* after the
slate was shown; by the client's word, which cannot lie ahead of the server's clock. The others are counted apart:

    unmatched   no such item was shown in such a request
    late        it came about after the window
    duplicate   its (request, item, behaviour) counted already: the first that was received does

A slate whose request id was answered twice is the first that was answered. Rows that are equal in every column are one
row, written again by a sink that was not sure; so whatever is read twice, or written twice, counts once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nextpage.experiments.assignment import ARMS
from nextpage.experiments.evidence import BEFORE, EVIDENCE_SCHEMA, KEYS, MEASURES, SEGMENT
from nextpage.experiments.off_policy import LoggedChoices
from serving.events import EXPOSURES, REQUESTS, SCHEMAS

ANSWERED = pa.schema(
    [
        *EXPOSURES,
        pa.field("clicked", pa.bool_(), nullable=False),  # or ordered
        pa.field("ordered", pa.bool_(), nullable=False),
        pa.field("value", pa.float64()),  # of the order
        pa.field("clicked_at", pa.timestamp("us", tz="UTC")),  # when the server heard of it
        pa.field("ordered_at", pa.timestamp("us", tz="UTC")),
    ]
)
UNKNOWN = "unknown"
PRIOR_SHOWS = 20.0


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """`exposures`: columns of ANSWERED, a row a shown item; `requests`: of REQUESTS, a row a request that was made, so
    one that was repeated has several. `late`, `duplicate`, `unmatched`: events that count for nothing."""

    exposures: pa.Table
    requests: pa.Table
    late: int
    duplicate: int
    unmatched: int


def attribute(folder: Path, *, window: timedelta) -> Attribution:
    """Join the Parquet log in `folder`, to which servers may write meanwhile. Raises FileNotFoundError without one."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} holds no event log: give the folder that the server has as --events")
    with duckdb.connect() as database:
        for kind, schema in reversed(SCHEMAS.items()):  # exposures last: a request that is read has its slate read
            files = [str(path) for path in sorted((folder / kind).glob("*.parquet"))]
            database.register(kind, pq.read_table(files, schema=schema) if files else schema.empty_table())
        database.execute(_JUDGED, {"window": window // timedelta(microseconds=1)})
        fates = dict(database.sql("select fate, count(*) from judged group by fate").fetchall())
        return Attribution(
            exposures=database.sql(_EXPOSURES).to_arrow_table().cast(ANSWERED),
            requests=database.sql(_REQUESTS).to_arrow_table().cast(REQUESTS),
            late=fates.get("late", 0),
            duplicate=fates.get("duplicate", 0),
            unmatched=fates.get("unmatched", 0),
        )


def evidence(
    attribution: Attribution,
    *,
    began: datetime,
    day: timedelta,
    slow_ms: float,
    popularity: Mapping[str, float],
    users: pa.Table | None,
) -> pa.Table:
    """Rows of `nextpage.experiments.evidence.EVIDENCE_SCHEMA` by user, arm and day, then the columns of `users`.

    `began`: the start of day 1, with its time zone; what was asked before is left out, and so is what has no user or
    no arm. Clicks and orders count on the day on which the server heard of them: a day that is over stays as it is.
    `popularity`: every item that exists, in either release, with its rank from 0 to 1 (`popularity_ranks`); items that
    it lacks are invalid, as are those that a server left out. A request is slow beyond `slow_ms`. `users`: `user_id`,
    once each, with `pre_…` and `segment_…` columns; users that it lacks get 0 and "unknown".
    Raises ValueError for other columns, for a user who stands there twice and for a `began` without time zone.
    """
    if began.tzinfo is None:
        raise ValueError(f"the experiment began at {began}, in no time zone: write {began.isoformat()}+00:00")
    known = users if users is not None else pa.table({"user_id": pa.array([], pa.string())})
    described = _described(known)
    ranks = {"item_id": pa.array(popularity.keys(), pa.string()), "rank": pa.array(popularity.values(), pa.float64())}
    microsecond = timedelta(microseconds=1)
    asked = {
        "began": round(began.timestamp() * 1e6),
        "day": day // microsecond,
        "slow_ms": slow_ms,
        "arms": list(ARMS),
    }
    sums = ", ".join(f"coalesce(sum({name}), 0)::double as {name}" for name in MEASURES)
    added = "".join(f", coalesce(any_value({column}), {absent}) as {column}" for column, absent in _columns(described))
    with duckdb.connect() as database:
        for name, table in {
            "exposures": attribution.exposures,
            "requests": attribution.requests,
            "ranks": pa.table(ranks),
            "users": known,
        }.items():
            database.register(name, table)
        keys = ", ".join(KEYS)
        rows = database.sql(
            f"{_HAPPENED} select {keys}, {sums}{added} from happened left join users using (user_id) "
            f"group by {keys} order by {keys}",
            params=asked,
        ).to_arrow_table()
    return rows.cast(pa.schema([*EVIDENCE_SCHEMA, *described]))


def popularity_ranks(catalogues: Sequence[pa.Table]) -> dict[str, float]:
    """Of every item of these releases' items (`item_id`, `orders`): its rank by orders, 0 for the least and 1 for the
    most ordered, items of equal orders sharing one."""
    orders: dict[str, int] = {}
    for items in catalogues:
        for item_id, count in zip(items["item_id"].to_pylist(), items["orders"].to_pylist(), strict=True):
            orders[item_id] = max(count, orders.get(item_id, 0))
    levels, level = np.unique(np.fromiter(orders.values(), np.int64, len(orders)), return_inverse=True)
    return dict(zip(orders, (level / max(1, len(levels) - 1)).tolist(), strict=True))


def logged_choices(exposures: pa.Table, target: pa.Table) -> LoggedChoices:
    """What the off-policy gate reads, with clicks as reward: exposures that bear a propensity, in requests of which
    `target` (`request_id`, `item_id`, `probability`) says what the release in question would have given; an item that
    it lacks there, it would not have shown. Rows of a user are one cluster, or of a request where none is known.

    For the doubly robust estimate an item's reward is guessed from the other half of the clusters: its rate of clicks,
    drawn to that of all by 20 more shows; what `target` leaves of a probability of 1 is worth the rate of all.

    The propensities are chances of being shown only where slates were drawn from them (`serving.events`); the gate
    tells by their weights, whose mean is not 1 otherwise. Raises ValueError where no row is left.
    """
    with duckdb.connect() as database:
        database.register("exposures", exposures)
        database.register("target", target)
        found = database.sql(_CHOICES, params={"prior": PRIOR_SHOWS}).fetchnumpy()
    return LoggedChoices(**found)


def _described(users: pa.Table) -> list[pa.Field]:
    """The columns beside the id. Raises ValueError where they are no description of each user."""
    if users["user_id"].null_count or len(users["user_id"].unique()) < len(users):
        raise ValueError("the table of users has a user twice, or none: give one row a user_id")
    described = []
    for name in users.column_names:
        if name.startswith((BEFORE, SEGMENT)):
            kind = pa.float64() if name.startswith(BEFORE) else pa.string()
            described.append(pa.field(name, kind, nullable=False))
        elif name != "user_id":
            raise ValueError(
                f"column {name!r} of the users is no {BEFORE}… and no {SEGMENT}…: rename it or leave it out"
            )
    return described


def _columns(described: Sequence[pa.Field]) -> list[tuple[str, str]]:
    """As SQL: each column, and what stands for a user who is not described."""
    absent = {pa.float64(): "0", pa.string(): f"'{UNKNOWN}'"}
    return [('"' + field.name.replace('"', '""') + '"', absent[field.type]) for field in described]


_JUDGED = """
    create temp table shown as
        select *, row_number() over (partition by request_id, item_id order by position) as occurrence
        from (
            from exposures qualify row_number() over (
                partition by request_id, position order by time, release_hash, item_id) = 1
            and time = min(time) over (partition by request_id)
        );
    create temp table judged as
        select said.* exclude (late),
               case when late is null then 'unmatched' when late then 'late'
                    when row_number() over (partition by request_id, item_id, behaviour, late
                                            order by received, time, value) > 1 then 'duplicate'
                    else 'counted' end as fate
        from (
            select distinct said.*, epoch_us(least(said.time, received)) > epoch_us(shown.time) + $window as late
            from feedback as said left join shown
            on said.request_id = shown.request_id and said.item_id = shown.item_id and occurrence = 1
        ) as said
"""
"""Tables `shown`, the slates, and `judged`, the feedback with its fate."""

_EXPOSURES = """
    with answered as (
        select request_id, item_id, min(received) as clicked_at,
               min(received) filter (behaviour = 'ordered') as ordered_at,
               min(value) filter (behaviour = 'ordered') as value
        from judged where fate = 'counted' group by request_id, item_id
    )
    select shown.* exclude (occurrence), clicked_at is not null as clicked, ordered_at is not null as ordered,
           value, clicked_at, ordered_at
    from shown left join answered on shown.request_id = answered.request_id
        and shown.item_id = answered.item_id and occurrence = 1
    order by time, shown.request_id, position
"""

_REQUESTS = "select distinct * from requests order by time, request_id, latency_ms, outcome"

_HAPPENED = """
    with ours as (
        select exposures.*, ranks.rank,
               row_number() over (partition by request_id, item_id order by position) as occurrence
        from exposures left join ranks using (item_id)
        where epoch_us(time) >= $began
    ), moments as (
        select user_id, arm, time, 1 as requests, (outcome = 'failed')::int as errors,
               (outcome = 'fallback')::int as fallbacks, (latency_ms > $slow_ms)::int as slow, latency_ms, invalid_items
        from requests
        union all by name
        select user_id, arm, time, 1 as exposures, (rank is null)::int as invalid_items,
               (occurrence > 1)::int as duplicates, rank as popularity
        from ours
        union all by name
        select user_id, arm, greatest(time, clicked_at) as time, 1 as clicks from ours where clicked
        union all by name
        select user_id, arm, greatest(time, ordered_at) as time, 1 as orders, value from ours where ordered
    ), happened as (
        select *, (epoch_us(time) - $began) // $day + 1 as day from moments
        where user_id is not null and arm in (select unnest($arms)) and epoch_us(time) >= $began
    )
"""
"""What each user did at which moment, one measure a row, as sums by day want it."""

_CHOICES = """
    with shown as (
        select request_id, position, item_id, clicked::double as reward, propensity as logged,
               coalesce(user_id, request_id) as cluster, hash(cluster) % 2 as fold
        from exposures where propensity > 0 and request_id in (select request_id from target)
    ), rates as (
        select 1 - fold as fold, avg(reward) as rate from shown group by fold
    ), guesses as (
        select item_id, 1 - shown.fold as fold, (sum(reward) + $prior * any_value(rate)) / (count(*) + $prior) as guess
        from shown join rates on rates.fold = 1 - shown.fold group by item_id, shown.fold
    ), expected as (
        select request_id, any_value(rate) + sum(probability * (coalesce(guess, rate) - rate)) as expected
        from (select distinct request_id, fold from shown) join rates using (fold) join target using (request_id)
        left join guesses using (item_id, fold) group by request_id
    )
    select reward, logged, coalesce(probability, 0)::double as target, cluster,
           coalesce(guess, rate, 0) as predicted, coalesce(expected.expected, 0) as expected
    from shown left join target using (request_id, item_id) left join rates using (fold)
        left join guesses using (item_id, fold) left join expected using (request_id)
    order by request_id, position
"""
