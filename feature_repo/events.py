"""A clean dataset as arrays: every event in its user's time order, and the pages held out of training."""

from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nextpage.interactions.database import connect
from nextpage.interactions.log import BEHAVIOURS, Dataset
from nextpage.interactions.splits import pages_query

SECOND = 1_000_000
"""In microseconds. All moments of the feature store lie on whole seconds, as histories count time in seconds."""

TIMESTAMP = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, kw_only=True)
class Events:
    """E events of U users, ordered by user, time, page and position. Users and items are those of the log and of the
    tables that describe them, in ascending order: who did nothing yet has features too."""

    user_ids: pa.StringArray  # [U]
    item_ids: pa.StringArray  # [I]
    user: np.ndarray  # int32 [E], place in user_ids
    item: np.ndarray  # int32 [E], place in item_ids
    behaviour: np.ndarray  # int8 [E], place in BEHAVIOURS
    page: np.ndarray  # int64 [E]
    time: np.ndarray  # int64 [E], seconds since 1970

    @property
    def start(self) -> int:
        """The first second of the log, in seconds since 1970."""
        return int(self.time.min())

    @property
    def end(self) -> int:
        """The first second after the log, in seconds since 1970."""
        return int(self.time.max()) + 1

    def before(self, user: np.ndarray, moment: np.ndarray) -> np.ndarray:
        """For each (user, moment) [S]: how many of the E events lie before it in their order: int64 [S]."""
        span = self.end - self.start + 1
        key = self.user.astype(np.int64) * span + self.time - self.start
        asked = user.astype(np.int64) * span + np.clip(moment - self.start, 0, span - 1)
        return np.searchsorted(key, asked, side="left")


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What training must not see, and the R pages of it that are evaluated, each at the moment of its request.

    Evaluated is a page with something clicked or ordered on it; the others have no truth to be measured by.
    """

    training_end: np.ndarray  # int64 [U], the second of the user's first page held out, or the end of the log
    request_id: pa.StringArray  # [R]
    split: pa.StringArray  # [R], "validation" or "test"
    user: np.ndarray  # int32 [R], place in Events.user_ids
    moment: np.ndarray  # int64 [R], seconds since 1970


def read_events(dataset: Dataset) -> Events:
    """Read a dataset's log; 25 bytes an event. Raises ValueError where it is empty."""
    with connect() as connection:
        connection.read_parquet(str(dataset.interactions)).create_view("interactions")
        ids = {}
        for key, path in (("user_id", dataset.users), ("item_id", dataset.items)):
            connection.register("described", read_attributes(path, key).select([key]))
            ids[key] = _column(
                connection, f"select {key} from interactions union select {key} from described order by 1"
            )
        query = """select user_id, item_id, behaviour, page, epoch_us(timestamp) as time
                   from interactions order by user_id, timestamp, page, position"""
        found = [
            (
                _places(batch["user_id"], ids["user_id"]),
                _places(batch["item_id"], ids["item_id"]),
                _places(batch["behaviour"], pa.array(BEHAVIOURS)).astype(np.int8),
                batch["page"].to_numpy(),
                batch["time"].to_numpy() // SECOND,
            )
            for batch in connection.sql(query).to_arrow_reader()
        ]
    if not found:
        raise ValueError(f"{dataset.interactions} has no rows: there is no history to make features of")
    user, item, behaviour, page, time = (np.concatenate(column) for column in zip(*found, strict=True))
    return Events(
        user_ids=ids["user_id"],
        item_ids=ids["item_id"],
        user=user,
        item=item,
        behaviour=behaviour,
        page=page,
        time=time,
    )


def read_held_out(dataset: Dataset, events: Events) -> HeldOut:
    """The pages that the dataset's split keeps from training, by user and time."""
    query = f"""
        select user_id, request_id, split, epoch_us(timestamp) as time, positive
        from ({pages_query(dataset.split())}) join (
            select user_id, request_id, bool_or(behaviour <> 'exposed') as positive from interactions group by all
        ) using (user_id, request_id)
        where split <> 'train' order by user_id, timestamp, page
    """
    with connect() as connection:
        connection.read_parquet(str(dataset.interactions)).create_view("interactions")
        pages = connection.sql(query).to_arrow_table().combine_chunks()
    user = _places(pages["user_id"], events.user_ids)
    moment = pages["time"].to_numpy() // SECOND
    training_end = np.full(len(events.user_ids), events.end, dtype=np.int64)
    np.minimum.at(training_end, user, moment)
    positive = pages["positive"].to_numpy()
    return HeldOut(
        training_end=training_end,
        request_id=pages["request_id"].filter(positive).cast(pa.string()).combine_chunks(),
        split=pages["split"].filter(positive).cast(pa.string()).combine_chunks(),
        user=user[positive],
        moment=moment[positive],
    )


def read_attributes(path: Path, key: str) -> pa.Table:
    """A dataset's table of users or items, all columns as strings; only `key` and no rows where there is no file."""
    if not path.exists():
        return pa.table({key: pa.array([], pa.string())})
    table = pq.read_table(path)
    return table.cast(pa.schema([(name, pa.string()) for name in table.column_names]))


def timestamps(seconds: np.ndarray) -> pa.TimestampArray:
    """Seconds since 1970 as microsecond timestamps."""
    return pa.array(seconds * SECOND).cast(TIMESTAMP)


def _column(connection: duckdb.DuckDBPyConnection, query: str) -> pa.StringArray:
    return connection.sql(query).to_arrow_table().column(0).cast(pa.string()).combine_chunks()


def _places(values: pa.Array | pa.ChunkedArray, known: pa.Array) -> np.ndarray:
    return pc.index_in(values.cast(pa.string()), value_set=known).to_numpy().astype(np.int32)
