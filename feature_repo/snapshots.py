"""The offline sources of the feature views: what was known of users and items at the moments that will be asked for.

A history is a list that changes with every event; keeping each of its states would square the log. A *snapshot* is its
state at one moment, made of the events strictly before it. Snapshots are taken where a training slice ends, where a
page to be evaluated was requested, and after the end of the log, which is what the online store starts from.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.events import TIMESTAMP, Events, timestamps
from nextpage.interactions.log import BEHAVIOURS

ROWS_AT_ONCE = 1_000
"""Histories in memory while writing, and in one row group."""

HISTORY_COLUMNS = [
    pa.field("history_item", pa.list_(pa.string())),
    pa.field("history_behaviour", pa.list_(pa.int64())),
    pa.field("history_page", pa.list_(pa.int64())),
    pa.field("history_time", pa.list_(pa.int64())),
]


def snapshot_moments(events: Events, *wanted: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The distinct (user, moment) among `wanted` and the end of the log for every user, in that order."""
    every_user = np.arange(len(events.user_ids))
    pairs = [*wanted, (every_user, np.full(len(every_user), events.end))]
    user = np.concatenate([user for user, _ in pairs]).astype(np.int64)
    moment = np.concatenate([moment for _, moment in pairs]).astype(np.int64)
    user, moment = np.unique(np.stack([user, moment]), axis=1)
    return user, moment


def write_histories(path: Path, events: Events, user: np.ndarray, moment: np.ndarray, *, last: int) -> None:
    """Write each snapshot's `last` events, oldest first; a user with no event before the moment has empty lists."""
    stop = events.before(user, moment)
    start = np.maximum(np.searchsorted(events.user, user), stop - last)
    keys = [pa.field("user_id", pa.string()), pa.field("event_timestamp", TIMESTAMP)]
    schema = pa.schema([*keys, *HISTORY_COLUMNS])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for row in range(0, len(user), ROWS_AT_ONCE):
            rows = slice(row, row + ROWS_AT_ONCE)
            length = stop[rows] - start[rows]
            offset = np.concatenate([[0], np.cumsum(length)])
            chosen = np.arange(offset[-1]) + np.repeat(start[rows] - offset[:-1], length)
            offsets = pa.array(offset, pa.int32())
            columns = [
                events.item_ids.take(pa.array(events.item[chosen])),
                pa.array(events.behaviour[chosen], pa.int64()),
                pa.array(events.page[chosen]),
                pa.array(events.time[chosen]),
            ]
            lists = [pa.ListArray.from_arrays(offsets, column) for column in columns]
            whose = [events.user_ids.take(pa.array(user[rows])), timestamps(moment[rows])]
            writer.write_batch(pa.record_batch([*whose, *lists], schema=schema))


def write_user_profiles(path: Path, events: Events, user: np.ndarray, moment: np.ndarray, attributes: pa.Table) -> None:
    """Write what is known of the user (`attributes`: user_id and strings), and counts of the events before."""
    stop = events.before(user, moment)
    start = np.searchsorted(events.user, user)
    before = _cumulative(_page_starts(events))
    counts = {"page_count": before[stop] - before[start]}
    for code, name in enumerate(BEHAVIOURS):
        before = _cumulative(events.behaviour == code)
        counts[f"{name}_count"] = before[stop] - before[start]
    unseen = stop == start
    ends = len(events.time) - 1
    times = {
        "first_time": pa.array(events.time[np.minimum(start, ends)], mask=unseen),
        "last_time": pa.array(events.time[stop - 1], mask=unseen),
    }
    rows = pa.array(user)
    known = _attributes(attributes, "user_id", events.user_ids)
    columns = {name: column.take(rows) for name, column in known.items()}
    keys = {"user_id": events.user_ids.take(rows), "event_timestamp": timestamps(moment)}
    pq.write_table(pa.table({**keys, **columns, **counts, **times}), path, compression="zstd")


def write_item_profiles(path: Path, events: Events, moments: np.ndarray, attributes: pa.Table) -> None:
    """Write what is known of each item (`attributes`: item_id and strings), and its counts before each moment."""
    known = _attributes(attributes, "item_id", events.item_ids)
    items = len(events.item_ids)
    tables = []
    for moment in np.unique(moments):
        seen = events.time < moment
        counts = {
            f"{name}_count": np.bincount(events.item[seen & (events.behaviour == code)], minlength=items)
            for code, name in enumerate(BEHAVIOURS)
        }
        keys = {"item_id": events.item_ids, "event_timestamp": timestamps(np.full(items, moment))}
        tables.append(pa.table({**keys, **known, **counts}))
    pq.write_table(pa.concat_tables(tables), path, compression="zstd")


def _cumulative(flags: np.ndarray) -> np.ndarray:
    """How many hold before each place, and in all: int64 [E + 1]."""
    return np.concatenate([[0], np.cumsum(flags)])


def _page_starts(events: Events) -> np.ndarray:
    starts = np.ones(len(events.user), dtype=bool)
    starts[1:] = (events.user[1:] != events.user[:-1]) | (events.page[1:] != events.page[:-1])
    return starts


def _attributes(table: pa.Table, key: str, ids: pa.StringArray) -> dict[str, pa.ChunkedArray]:
    """The table's other columns, a row for each of `ids`; null where the table does not know it."""
    place = pc.index_in(ids, value_set=table[key].combine_chunks())
    return {name: table[name].take(place) for name in table.column_names if name != key}
