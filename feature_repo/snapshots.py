"""The offline sources of the feature views: what was known of users and items at the moments that will be asked for.

A history is a list that changes with every event; keeping each of its states would square the log. A *snapshot* is its
state at one moment, made of the events strictly before it. Snapshots are taken where a training slice ends, where a
page to be evaluated was requested, and after the end of the log, which is what the online store starts from.

Ibis expressions, as in feature_repo/events.py; `logs` is its `user_logs`.
"""

from collections.abc import Iterable

import ibis
import ibis.expr.types as ir

from feature_repo.events import EVENT, Source, item_ids, seconds
from nextpage.interactions.log import BEHAVIOURS


def snapshots(logs: ir.Table, slices: ir.Table, evaluated: ir.Table, end: int) -> ir.Table:
    """The distinct user_id and moment of the slices' ends, of the pages evaluated, and of the log's end for all."""
    return ibis.union(
        slices.select("user_id", moment="as_of"),
        evaluated.select("user_id", "moment"),
        logs.select("user_id", moment=ibis.literal(end, "int64")),
        distinct=True,
    )


def histories(moments: ir.Table, logs: ir.Table, *, last: int) -> ir.Table:
    """Each snapshot's `last` events, oldest first; a user with no event before the moment has empty lists."""
    past = _past(moments, logs)
    start = ibis.greatest(past.stop - last, 0)
    return past.select(
        "user_id",
        event_timestamp=timestamps(past.moment),
        **{f"history_{name}": past[name][start : past.stop] for name in EVENT},
    )


def user_profiles(moments: ir.Table, logs: ir.Table, source: Source) -> ir.Table:
    """What is known of each snapshot's user, and counts of the events before."""
    past = _past(moments, logs)
    behaviour, before = past.behaviour[0 : past.stop], past.stop > 0
    counts = {
        f"{name}_count": behaviour.filter(lambda one, code=code: one == code).length()
        for code, name in enumerate(BEHAVIOURS)
    }
    profile = past.select(
        "user_id",
        "moment",
        page_count=past.page[0 : past.stop].unique().length(),
        **counts,
        first_time=ibis.ifelse(before, past.time[0], None),
        last_time=ibis.ifelse(before, past.time[past.stop - 1], None),
    )
    return _described(profile, source.users, "user_id")


def item_profiles(source: Source, moments: Iterable[int]) -> ir.Table:
    """What is known of each item, and its counts before each moment."""
    log = source.log
    second, moments = seconds(log.timestamp), sorted(set(moments))
    seen = {
        f"{name}_{moment}": ((second < moment) & (log.behaviour == name)).sum().cast("int64")
        for moment in moments
        for name in BEHAVIOURS
    }
    counted = item_ids(source).left_join(log.group_by("item_id").agg(**seen), "item_id")
    profiles = [
        counted.select(
            "item_id",
            moment=ibis.literal(moment, "int64"),
            **{f"{name}_count": counted[f"{name}_{moment}"].fill_null(0) for name in BEHAVIOURS},
        )
        for moment in moments
    ]
    return _described(ibis.union(*profiles), source.items, "item_id")


def timestamps(moment: ir.IntegerValue) -> ir.TimestampValue:
    """Seconds since 1970 as timestamps of UTC."""
    return moment.as_timestamp("s").cast("timestamp('UTC')")


def _past(moments: ir.Table, logs: ir.Table) -> ir.Table:
    """Each snapshot with its user's arrays, and `stop`: how many of the events lie before the moment."""
    past = moments.inner_join(logs, "user_id")
    return past.mutate(stop=past.time.filter(lambda time: time < past.moment).length())


def _described(profile: ir.Table, attributes: ir.Table, key: str) -> ir.Table:
    """Put what is known of a user or an item between the keys and the counts; null where nothing is."""
    names = [name for name in attributes.columns if name != key]
    known = profile.left_join(attributes, key)
    counts = [name for name in profile.columns if name not in (key, "moment")]
    return known.select(key, *names, *counts, event_timestamp=timestamps(known.moment)).relocate(
        "event_timestamp", after=key
    )
