"""A clean dataset as Ibis expressions: each user's events in order, the pages held out of training, the slices before.

DuckDB and Spark run the same expressions (feature_repo/engines.py). A user's events are one row of arrays: whatever is
asked of a user's past is then asked of one row, and no two users ever meet on one machine.

All moments lie on whole seconds since 1970, as histories count time in seconds.
"""

from dataclasses import dataclass

import ibis
import ibis.expr.types as ir
import numpy as np

from feature_repo.engines import Engine
from nextpage.interactions.log import BEHAVIOURS, Dataset, Split
from nextpage.interactions.slices import FeaturesConfig, cut_slices
from nextpage.interactions.splits import pages

EVENT = {"item": "string", "behaviour": "int64", "page": "int64", "time": "int64"}
"""What is known of an event, as arrays of a user: item id, place in BEHAVIOURS, page, seconds since 1970."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A dataset's tables on an engine. Attributes are strings; users and items may be described and not in the log."""

    log: ir.Table  # INTERACTION_SCHEMA
    users: ir.Table  # user_id, attributes
    items: ir.Table  # item_id, attributes
    split: Split
    start: int  # the first second of the log
    end: int  # the first second after the log


def read_source(dataset: Dataset, engine: Engine) -> Source:
    """Open a dataset. Raises ValueError where its log is empty."""
    log = engine.read(dataset.interactions)
    second = seconds(log.timestamp)
    ((start, last),) = engine.rows(log.agg(start=second.min(), last=second.max()))
    if last is None:
        raise ValueError(f"{dataset.interactions} has no rows: there is no history to make features of")
    users = engine.read(dataset.users) if dataset.users.exists() else log.select("user_id").filter(False)
    items = engine.read(dataset.items) if dataset.items.exists() else log.select("item_id").filter(False)
    return Source(
        log=log,
        users=users.mutate(**{name: users[name].cast("string") for name in users.columns}),
        items=items.mutate(**{name: items[name].cast("string") for name in items.columns}),
        split=dataset.split(),
        start=start,
        end=last + 1,
    )


def user_logs(source: Source) -> ir.Table:
    """One row a user: user_id, and the arrays of EVENT, by time, page and position; empty for who did nothing yet."""
    log = source.log
    code = log.behaviour.cases(*((name, code) for code, name in enumerate(BEHAVIOURS)))
    # A struct is sorted by its fields in turn; arrays have no other order that both engines keep.
    event = {"timestamp": log.timestamp, "page": log.page, "position": log.position, "item": log.item_id}
    event |= {"behaviour": code.cast("int64"), "time": seconds(log.timestamp)}
    logs = log.group_by("user_id").agg(events=ibis.struct(event).collect().sort())
    logs = logs.select("user_id", **{name: logs.events.map(lambda one, name=name: one[name]) for name in EVENT})
    idle = source.users.select("user_id").anti_join(logs, "user_id").distinct()
    return logs.union(idle.mutate(**{name: _empty(kind) for name, kind in EVENT.items()}))


def item_ids(source: Source) -> ir.Table:
    """Every item once, of the log or described: item_id."""
    return source.items.select("item_id").union(source.log.select("item_id"), distinct=True)


def held_out(source: Source) -> ir.Table:
    """The pages that training must not see: user_id, request_id, page, timestamp, split, moment, positive.

    Evaluated are the positive ones, with something clicked or ordered; the others have no truth to be measured by.
    """
    log = source.log
    acted = (log.behaviour != BEHAVIOURS[0]).any()
    positive = log.group_by("user_id", "request_id").agg(positive=acted)
    held = pages(log, source.split).filter(lambda page: page.split != "train")
    return held.inner_join(positive, ["user_id", "request_id"]).mutate(moment=lambda page: seconds(page.timestamp))


def slices(logs: ir.Table, held: ir.Table, end: int, config: FeaturesConfig) -> ir.Table:
    """The training slices (nextpage/interactions/slices.py): user_id, target_from, as_of.

    Training ends for a user in the second of the first page held out, else at `end`.
    """

    @ibis.udf.scalar.python(signature=(("array<int64>", "array<int64>", "int64"), "array<array<int64>>"))
    def cut(time, behaviour, training_end):  # type: ignore[no-untyped-def]
        events = int(np.searchsorted(time, training_end))
        found = cut_slices(
            user=np.zeros(events, np.int64),
            time=np.asarray(time[:events], np.int64),
            positive=np.asarray(behaviour[:events], np.int64) > 0,
            config=config,
        )
        return [[int(one) for one in pair] for pair in zip(found.target_from, found.as_of, strict=True)]

    first = held.group_by("user_id").agg(training_end=held.moment.min())
    ends = logs.left_join(first, "user_id").select(
        logs.user_id, logs.time, logs.behaviour, training_end=first.training_end.fill_null(end)
    )
    one = ends.select("user_id", slice=cut(ends.time, ends.behaviour, ends.training_end).unnest())
    return one.select("user_id", target_from=one.slice[0], as_of=one.slice[1])


def seconds(timestamp: ir.TimestampValue) -> ir.IntegerValue:
    """Whole seconds since 1970, int64."""
    return timestamp.truncate("s").epoch_seconds().cast("int64")


def _empty(kind: str) -> ir.ArrayValue:
    return ibis.literal([], type=f"array<{kind}>")
