"""From raw events to pages: which events one request showed, in which order, and which page of the user it was.

A loader makes a DuckDB relation `events`, one row an event:

    user_id, request_id, item_id, behaviour (strings), timestamp (with time zone), value (double), scenario (string),
    position (bigint; null where the source has none)

and the functions here turn it into `interactions` as in `INTERACTION_SCHEMA`, all in SQL.
"""

import duckdb

from nextpage.interactions.log import BEHAVIOURS

INTENSITY = "list_position([" + ", ".join(f"'{name}'" for name in BEHAVIOURS) + "], behaviour)"
"""SQL: 1 for the weakest behaviour, null for an unknown one."""


def pages_by_session(connection: duckdb.DuckDBPyConnection, gap_seconds: float) -> None:
    """Give `events` a request_id: a user's events form one page until a pause of more than `gap_seconds`.

    With a gap of 0 only events of one moment share a page. request_id is `<user>-<running number>`.
    """
    connection.execute(
        """
        create or replace table events as
        select * exclude (starts, session) replace (user_id || '-' || session as request_id) from (
            select *, sum(starts) over (partition by user_id order by timestamp
                                        range between unbounded preceding and current row) - 1 as session
            from (
                select *, (coalesce(epoch(timestamp) - epoch(lag(timestamp) over
                    (partition by user_id order by timestamp)), 1e18) > ?)::bigint as starts
                from events
            )
        )
        """,
        [gap_seconds],
    )


def make_interactions(connection: duckdb.DuckDBPyConnection) -> None:
    """Make table `interactions` out of `events`.

    - An item is shown once a page: its strongest behaviour stays, its values add up (null if all are null).
    - A page's time is that of its first event; a user's pages are numbered from 0 by time, then request_id.
    - Positions run from 0: the source's own order where it has one, else by intensity (ordered first), then time,
      then item_id.
    """
    connection.execute(
        f"""
        create or replace table interactions as
        with shown as (
            select user_id, request_id, item_id, arg_max(behaviour, coalesce({INTENSITY}, 0)) as behaviour,
                   min(timestamp) as moment, sum(value) as value, min(scenario) as scenario,
                   min(position) as position
            from events group by user_id, request_id, item_id
        ), pages as (
            select user_id, request_id, min(moment) as timestamp,
                   row_number() over (partition by user_id order by min(moment), request_id) - 1 as page
            from shown group by user_id, request_id
        )
        select shown.user_id, shown.request_id, pages.page,
               row_number() over (partition by shown.user_id, shown.request_id
                                  order by position, {INTENSITY} desc, moment, item_id) - 1 as position,
               item_id, behaviour, pages.timestamp, value, scenario
        from shown join pages
          on shown.request_id is not distinct from pages.request_id
         and shown.user_id is not distinct from pages.user_id
        """
    )
