"""A clean dataset as arrays: its events in each user's time order, and the pages to be evaluated."""

from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nextpage.interactions.log import BEHAVIOURS, Dataset, Split

SECOND = 1_000_000
"""In microseconds. All moments of the feature store lie on whole seconds, as histories count time in seconds."""

TIMESTAMP = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, kw_only=True)
class Events:
    """E events of U users, ordered by user, time, page and position; users are those of the log and of `users`."""

    user_ids: pa.StringArray  # [U], ascending
    item_ids: pa.StringArray  # [I], ascending: items of the catalogue and of the log
    user: np.ndarray  # int32 [E], place in user_ids
    item: np.ndarray  # int32 [E], place in item_ids
    behaviour: np.ndarray  # int8 [E], place in BEHAVIOURS
    page: np.ndarray  # int64 [E]
    time: np.ndarray  # int64 [E], seconds since 1970

    @property
    def end(self) -> int:
        """The first second after the log, in seconds since 1970."""
        return int(self.time.max()) + 1 if len(self.time) else 0

    def before(self, user: np.ndarray, moment: np.ndarray) -> np.ndarray:
        """For each (user, moment) [S]: how many of the E events lie before it in the order: int64 [S]."""
        span = self.end + 1
        key = self.user.astype(np.int64) * span + self.time
        return np.searchsorted(key, user.astype(np.int64) * span + np.minimum(moment, self.end), side="left")


@dataclass(frozen=True, kw_only=True)
class Requests:
    """R pages to be evaluated, each at the moment of its request."""

    request_id: pa.StringArray  # [R]
    split: pa.StringArray  # [R], "validation" or "test"
    user: np.ndarray  # int32 [R], place in Events.user_ids
    moment: np.ndarray  # int64 [R], seconds since 1970


def read_events(dataset: Dataset) -> Events:
    """Read a dataset's log: 16 bytes an event stay, and about ten times that while it is sorted."""
    connection = _connect(dataset)
    user_ids = _column(connection, "select user_id from interactions union select user_id from users order by 1")
    item_ids = _column(connection, "select item_id from interactions union select item_id from items order by 1")
    user, item, behaviour, page, time = [], [], [], [], []
    query = "select user_id, item_id, behaviour, page, epoch_us(timestamp) as time from interactions"
    for batch in connection.sql(f"{query} order by user_id, timestamp, page, position").to_arrow_reader():
        user.append(_places(batch["user_id"], user_ids))
        item.append(_places(batch["item_id"], item_ids))
        behaviour.append(_places(batch["behaviour"], pa.array(BEHAVIOURS)).astype(np.int8))
        page.append(batch["page"].to_numpy())
        time.append(batch["time"].to_numpy() // SECOND)
    if not user:
        raise ValueError(f"{dataset.interactions} has no rows: there is no history to make features of")
    return Events(
        user_ids=user_ids,
        item_ids=item_ids,
        user=np.concatenate(user),
        item=np.concatenate(item),
        behaviour=np.concatenate(behaviour),
        page=np.concatenate(page),
        time=np.concatenate(time),
    )


def read_requests(dataset: Dataset, events: Events) -> Requests:
    """The held-out pages with something clicked or ordered on them; the others have no truth to be measured by."""
    held_out, moments = _held_out(dataset.split())
    query = f"""
        with pages as (
            select user_id, request_id, min(timestamp) as timestamp, min(page) as page
            from interactions group by all having bool_or(behaviour <> 'exposed')
        ), held_out as ({held_out})
        select user_id, request_id, split, epoch_us(timestamp) as time from held_out
        where split is not null order by user_id, time, page
    """
    found = _connect(dataset).sql(query, params=moments).to_arrow_table().combine_chunks()
    return Requests(
        request_id=found["request_id"].cast(pa.string()).combine_chunks(),
        split=found["split"].cast(pa.string()).combine_chunks(),
        user=_places(found["user_id"].combine_chunks(), events.user_ids),
        moment=found["time"].to_numpy() // SECOND,
    )


def training_ends(split: Split, events: Events, requests: Requests) -> np.ndarray:
    """For each user, the moment before which events are for training: int64 [U], seconds since 1970."""
    if split.validation_start is not None:
        start = int(split.validation_start.timestamp())
        return np.full(len(events.user_ids), start, dtype=np.int64)
    ends = np.full(len(events.user_ids), events.end, dtype=np.int64)
    np.minimum.at(ends, requests.user, requests.moment)
    return ends


def timestamps(seconds: np.ndarray) -> pa.TimestampArray:
    """Seconds since 1970 as microsecond timestamps."""
    return pa.array(seconds * SECOND).cast(TIMESTAMP)


def _held_out(split: Split) -> tuple[str, list[object]]:
    if split.kind == "time":
        return (
            "select *, case when timestamp >= ? then 'test' when timestamp >= ? then 'validation' end as split "
            "from pages",
            [split.test_start, split.validation_start],
        )
    latest = "row_number() over (partition by user_id order by timestamp desc, page desc)"
    return (f"select *, case {latest} when 1 then 'test' when 2 then 'validation' end as split from pages", [])


def read_attributes(path: Path, key: str) -> pa.Table:
    """A dataset's table of users or items, all columns as strings; only `key` and no rows where there is no file."""
    if not path.exists():
        return pa.table({key: pa.array([], pa.string())})
    table = pq.read_table(path)
    return table.cast(pa.schema([(name, pa.string()) for name in table.column_names]))


def _connect(dataset: Dataset) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    connection.read_parquet(str(dataset.interactions)).create_view("interactions")
    connection.register("items", read_attributes(dataset.items, "item_id").select(["item_id"]))
    connection.register("users", read_attributes(dataset.users, "user_id").select(["user_id"]))
    return connection


def _column(connection: duckdb.DuckDBPyConnection, query: str) -> pa.StringArray:
    return connection.sql(query).to_arrow_table().column(0).cast(pa.string()).combine_chunks()


def _places(values: pa.Array, known: pa.Array) -> np.ndarray:
    return pc.index_in(values.cast(pa.string()), value_set=known).to_numpy(zero_copy_only=False).astype(np.int32)
