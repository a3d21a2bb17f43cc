"""Histories as ragged arrays: the form in which models, baselines and metrics read a log."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """S histories, each as of a moment, N events in all; events of one history lie together, in time order.

    `item` is a row of the catalogue the sequences were read with; events of items outside it are left out.
    Every event of history s lies strictly before `as_of[s]`. Pages of s from `target_from[s]` on are to be learnt;
    the earlier ones are context only (a prompt has `target_from == as_of`: nothing to learn).
    """

    user_id: np.ndarray  # str objects [S]
    as_of: np.ndarray  # int64 [S], seconds since 1970
    target_from: np.ndarray  # int64 [S], seconds since 1970
    offset: np.ndarray  # int64 [S + 1]
    item: np.ndarray  # int32 [N]
    behaviour: np.ndarray  # int8 [N], place in BEHAVIOURS
    page: np.ndarray  # int64 [N]
    time: np.ndarray  # int64 [N], seconds since 1970

    def __len__(self) -> int:
        return len(self.user_id)

    def take(self, rows: np.ndarray) -> "Sequences":
        """The histories at `rows`, in that order."""
        rows = np.asarray(rows, dtype=np.int64)
        lengths = (self.offset[1:] - self.offset[:-1])[rows]
        offset = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        events = np.arange(offset[-1]) + np.repeat(self.offset[:-1][rows] - offset[:-1], lengths)
        return Sequences(
            user_id=self.user_id[rows],
            as_of=self.as_of[rows],
            target_from=self.target_from[rows],
            offset=offset,
            item=self.item[events],
            behaviour=self.behaviour[events],
            page=self.page[events],
            time=self.time[events],
        )

    def select(self, keep: np.ndarray) -> "Sequences":
        """The same histories with only the events where `keep` (bool [N]) holds."""
        kept_before = np.concatenate([[0], np.cumsum(keep)])
        return Sequences(
            user_id=self.user_id,
            as_of=self.as_of,
            target_from=self.target_from,
            offset=kept_before[self.offset].astype(np.int64),
            item=self.item[keep],
            behaviour=self.behaviour[keep],
            page=self.page[keep],
            time=self.time[keep],
        )

    def last(self, events: int) -> "Sequences":
        """The same histories cut to their last `events` events."""
        start = np.maximum(self.offset[:-1], self.offset[1:] - events)
        place = np.arange(len(self.item))
        return self.select(place >= np.repeat(start, np.diff(self.offset)))


def sequences_from_table(table: pa.Table, item_ids: Sequence[str]) -> Sequences:
    """Read histories from the feature store's table, with `item_ids` as the catalogue.

    Columns: user_id; as_of, target_from (timestamps; target_from may be absent: then nothing is to be learnt);
    history_item (list of strings), history_behaviour, history_page, history_time (lists of integers; times in
    seconds since 1970). A null list is an empty one.
    """
    lists = {name: table[f"history_{name}"].combine_chunks() for name in ("item", "behaviour", "page", "time")}
    lengths = np.asarray(pa.compute.list_value_length(lists["item"]).fill_null(0), dtype=np.int64)
    as_of = _seconds(table["as_of"])
    target_from = _seconds(table["target_from"]) if "target_from" in table.column_names else as_of
    catalogue = pa.array(item_ids, pa.string())
    row = pa.compute.index_in(lists["item"].flatten().cast(pa.string()), value_set=catalogue)
    every = Sequences(
        user_id=np.asarray(table["user_id"].to_pylist(), dtype=object),
        as_of=as_of,
        target_from=target_from,
        offset=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        item=np.asarray(row.fill_null(-1), dtype=np.int32),
        behaviour=np.asarray(lists["behaviour"].flatten(), dtype=np.int8),
        page=np.asarray(lists["page"].flatten(), dtype=np.int64),
        time=np.asarray(lists["time"].flatten(), dtype=np.int64),
    )
    return every.select(every.item >= 0)


def _seconds(column: pa.ChunkedArray) -> np.ndarray:
    micro = column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    return np.asarray(micro, dtype=np.int64) // 1_000_000
