"""A dataset as arrays: whole histories, training histories, and the requests that evaluation asks.

All read the same events in the same order: by user_id, then time, page and position; events of items outside the
catalogue are left out. `item_ids` is the catalogue: an item's number everywhere is its place there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from nextpage.interactions.database import connect
from nextpage.interactions.log import BEHAVIOURS, Dataset
from nextpage.interactions.sequences import Sequences
from nextpage.interactions.splits import SPLITS, pages_query


@dataclass(frozen=True, kw_only=True)
class Requests:
    """R pages to be foretold, each from all that its user did strictly before it."""

    request_id: np.ndarray  # str objects [R]
    prompts: Sequences  # R histories, as of the page's time
    truth_offset: np.ndarray  # int64 [R + 1]
    truth_item: np.ndarray  # int32 [T], items of the catalogue, ascending and unique within a page
    dropped: int  # pages of the split without a relevant item in the catalogue

    def __len__(self) -> int:
        return len(self.request_id)


@dataclass(frozen=True, kw_only=True)
class _Log:
    histories: Sequences
    place: np.ndarray  # int64 [N], each event's row in the pages below
    request_id: np.ndarray  # str objects [P]; pages in the order of their users, then of time
    user: np.ndarray  # int64 [P], row in histories
    time: np.ndarray  # int64 [P], seconds since 1970
    split: np.ndarray  # int8 [P], place in SPLITS
    draw: np.ndarray  # uint64 [P], a hash of the page by which samples are drawn


def read_histories(dataset: Dataset, item_ids: Sequence[str]) -> Sequences:
    """The whole log, one history a user, as of one second after the user's last page; nothing is to be learnt."""
    return _read(dataset, item_ids).histories


def split_of_events(dataset: Dataset, item_ids: Sequence[str]) -> np.ndarray:
    """For each event of `read_histories`, the place of its page's split in `SPLITS`: int8 [N]."""
    log = _read(dataset, item_ids)
    return np.asarray(log.split[log.place])


def training_histories(dataset: Dataset, item_ids: Sequence[str]) -> Sequences:
    """The pages of the training split, all of them to be learnt; users without any are left out."""
    log = _read(dataset, item_ids)
    train = log.histories.select(log.split[log.place] == SPLITS.index("train"))
    train = train.take(np.flatnonzero(np.diff(train.offset)))
    return replace(train, as_of=train.time[train.offset[1:] - 1] + 1, target_from=train.time[train.offset[:-1]])


def requests(
    dataset: Dataset,
    item_ids: Sequence[str],
    *,
    split: str = "test",
    relevant: Sequence[str] = ("ordered",),
    limit: int | None = None,
) -> Requests:
    """The pages of `split` with the items whose behaviour is in `relevant` as the truth, by user and time.

    `limit` takes a sample of at most so many pages by the hash of user and request, the same in every run. A prompt
    is the user's whole history up to the second before the page (`prompts.last(n)` cuts it). Raises ValueError for an
    unknown split or behaviour.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown: use one of {', '.join(SPLITS)}")
    unknown = set(relevant) - set(BEHAVIOURS)
    if unknown:
        raise ValueError(f"behaviours {sorted(unknown)} are unknown: use some of {', '.join(BEHAVIOURS)}")
    log = _read(dataset, item_ids)
    wanted = np.isin(log.histories.behaviour, [BEHAVIOURS.index(name) for name in relevant])
    wanted &= log.split[log.place] == SPLITS.index(split)
    pages = np.unique(log.place[wanted])
    dropped = int((log.split == SPLITS.index(split)).sum()) - len(pages)
    if limit is not None:
        pages = np.sort(pages[np.argsort(log.draw[pages], kind="stable")[:limit]])
    wanted &= np.isin(log.place, pages)
    truth = np.unique(np.stack([log.place[wanted], log.histories.item[wanted]], axis=1), axis=0)  # [T, 2]
    return Requests(
        request_id=log.request_id[pages],
        prompts=_before(log, pages),
        truth_offset=np.append(np.searchsorted(truth[:, 0], pages), len(truth)).astype(np.int64),
        truth_item=truth[:, 1].astype(np.int32),
        dropped=dropped,
    )


def _before(log: _Log, pages: np.ndarray) -> Sequences:
    """For each of `pages`, its user's events of an earlier second: a prefix of the user's history."""
    histories, user, moment = log.histories, log.user[pages], log.time[pages]
    owner = np.repeat(np.arange(len(histories)), np.diff(histories.offset))
    origin = log.time.min(initial=0)
    span = log.time.max(initial=0) - origin + 1
    when = owner * span + (histories.time - origin)  # ascending, as users and their events are
    length = np.searchsorted(when, user * span + (moment - origin)) - histories.offset[user]
    prompts = histories.take(user)
    place = np.arange(len(prompts.item)) - np.repeat(prompts.offset[:-1], np.diff(prompts.offset))
    cut = prompts.select(place < np.repeat(length, np.diff(prompts.offset)))
    return replace(cut, as_of=moment, target_from=moment)


def _read(dataset: Dataset, item_ids: Sequence[str]) -> _Log:
    with connect() as connection:
        connection.read_parquet(str(dataset.interactions)).create_view("interactions")
        catalogue = pa.table({"item_id": pa.array(item_ids, pa.string()), "item": np.arange(len(item_ids))})
        connection.register("catalogue", catalogue)
        connection.execute(
            f"""
            create table pages as
            select *, epoch_us(timestamp) // 1000000 as time,
                   dense_rank() over (order by user_id) - 1 as user,
                   row_number() over (order by user_id, timestamp, page) - 1 as place,
                   list_position({list(SPLITS)}, split) - 1 as code,
                   md5_number_lower(user_id || '/' || request_id) as draw
            from ({pages_query(dataset.split())})
            """
        )
        pages = connection.sql("from pages order by place").to_arrow_table()
        events = connection.sql(
            f"""
            select pages.user, place, time, pages.page, item, list_position({list(BEHAVIOURS)}, behaviour) - 1 as code
            from interactions join catalogue using (item_id) join pages using (user_id, request_id)
            order by place, position
            """
        ).to_arrow_table()
    return _arrays(pages, events)


def _arrays(pages: pa.Table, events: pa.Table) -> _Log:
    user = _numbers(pages, "user")
    time = _numbers(pages, "time")
    last = np.flatnonzero(np.diff(user, append=-1))  # each user's last page
    as_of = time[last] + 1
    histories = Sequences(
        user_id=np.asarray(pages["user_id"].take(last).to_pylist(), dtype=object),
        as_of=as_of,
        target_from=as_of,
        offset=np.searchsorted(_numbers(events, "user"), np.arange(len(last) + 1)).astype(np.int64),
        item=_numbers(events, "item").astype(np.int32),
        behaviour=_numbers(events, "code").astype(np.int8),
        page=_numbers(events, "page"),
        time=_numbers(events, "time"),
    )
    return _Log(
        histories=histories,
        place=_numbers(events, "place"),
        request_id=np.asarray(pages["request_id"].to_pylist(), dtype=object),
        user=user,
        time=time,
        split=_numbers(pages, "code").astype(np.int8),
        draw=pages["draw"].to_numpy(),
    )


def _numbers(table: pa.Table, column: str) -> np.ndarray:
    return np.asarray(table[column], dtype=np.int64)
