"""Two windows of the log and of the predictions, as pairs of samples for each column that is watched.

A column lives at the grain at which its values are independent of window length and of one another as far as can be:
an event (category, value, code), a page (hour, weekday, size) or a user's week (activity). Totals over a whole window
would differ between forty weeks and four with nothing changed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from components.monitor.config import MonitorConfig
from nextpage.interactions.log import Dataset

if TYPE_CHECKING:
    import pandas as pd

PREDICTION_COLUMNS = ("request_id", "time", "position", "item_id", "score")
"""One row a recommended item, as the exposures of `serving.attribution`. `position` counts from 0; `score` may be null.

A hit is a prediction that was taken: by the columns `clicked` and `ordered` (bool) where there are such, else where the
log shows its item as clicked or ordered in the same request."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One column of the two windows: raw values, nulls included."""

    kind: str
    column: str
    reference: "pd.Series"
    current: "pd.Series"


@dataclass(frozen=True, kw_only=True)
class Windows:
    """SQL over a row's `moment` and `request_id` that gives 'reference', 'current' or null; for log and predictions.

    `week`: SQL over `moment` for the full week of its window, counted from the window's start; null in a part of one.
    """

    log: str
    predictions: str
    week: str


def open_log(clean: Path, semantic_ids: Path, predictions: Path | None) -> duckdb.DuckDBPyConnection:
    """Views `events`, `items` and, if given, `predicted`, each event and prediction with item attributes and codes."""
    data = Dataset(folder=clean)
    connection = duckdb.connect()
    connection.execute("SET threads = 1")  # a repeatable sample needs one order of rows
    connection.execute("SET enable_progress_bar = false")
    connection.execute(
        f"CREATE VIEW items AS SELECT i.* EXCLUDE (text), s.* EXCLUDE (item_id) FROM '{data.items}' i "
        f"LEFT JOIN '{semantic_ids}' s USING (item_id)"
    )
    connection.execute(
        "CREATE TABLE events AS SELECT user_id, request_id, item_id, behaviour, value, scenario, "
        f"make_timestamp(epoch_us(timestamp)) AS moment FROM '{data.interactions}'"
    )
    if predictions is not None:
        _open_predictions(connection, predictions)
    return connection


def _open_predictions(connection: duckdb.DuckDBPyConnection, predictions: Path) -> None:
    held = {row[0] for row in connection.execute(f"DESCRIBE FROM read_parquet('{predictions}')").fetchall()}
    missing = [name for name in PREDICTION_COLUMNS if name not in held]
    if missing:
        raise ValueError(f"predictions {predictions} lack {', '.join(missing)}: needed are {PREDICTION_COLUMNS}")
    hit = "p.clicked OR p.ordered" if {"clicked", "ordered"} <= held else "h.item_id IS NOT NULL"
    connection.execute(
        "CREATE TABLE predicted AS SELECT p.request_id, p.item_id, p.position, p.score, "
        f"make_timestamp(epoch_us(p.time)) AS moment, coalesce(l.uses, 0) AS popularity, {hit} AS hit "
        f"FROM read_parquet('{predictions}') p "
        "LEFT JOIN (SELECT item_id, count(*) AS uses FROM events GROUP BY 1) l USING (item_id) "
        "LEFT JOIN (SELECT DISTINCT request_id, item_id FROM events WHERE behaviour <> 'exposed') h "
        "USING (request_id, item_id)"
    )


def time_windows(
    connection: duckdb.DuckDBPyConnection, config: MonitorConfig, learnt_until: int | None = None
) -> Windows:
    """The first weeks against the last ones; predictions on their own clock, the later half against the earlier.

    A log shorter than both windows gives its last quarter at most to the current one, and the reference ends before it.
    `learnt_until`: seconds since 1970, the first after the log that a release was learnt from; what came since, its
    last weeks, is then held against as many weeks before.
    """
    weeks = f"to_days(7 * {config.current_weeks})"
    if learnt_until is None:
        current = f"last - least({weeks}, (last - first) / 4)"
        bounds = f"first, least(first + to_days(7 * {config.reference_weeks}), {current}), {current}"
    else:
        learnt = f"make_timestamp({learnt_until * 1_000_000})"
        bounds = f"greatest(first, {learnt} - {weeks}), {learnt}, greatest({learnt}, last - {weeks})"
    begin, until, since, last = connection.execute(  # type: ignore[misc]
        f"SELECT {bounds}, last FROM (SELECT min(moment) AS first, max(moment) AS last FROM events)"
    ).fetchone()
    log = (
        f"CASE WHEN moment >= TIMESTAMP '{since}' THEN 'current' "
        f"WHEN moment >= TIMESTAMP '{begin}' AND moment < TIMESTAMP '{until}' THEN 'reference' END"
    )
    start = f"CASE WHEN moment < TIMESTAMP '{until}' THEN TIMESTAMP '{begin}' ELSE TIMESTAMP '{since}' END"
    end = f"CASE WHEN moment < TIMESTAMP '{until}' THEN TIMESTAMP '{until}' ELSE TIMESTAMP '{last}' END"
    number = f"datediff('second', {start}, moment) // 604800"
    week = f"CASE WHEN {start} + to_days(7 * ({number} + 1)::int) <= {end} THEN {number} END"
    middle = "(SELECT median(moment) FROM predicted)"
    return Windows(log=log, predictions=f"CASE WHEN moment < {middle} THEN 'reference' ELSE 'current' END", week=week)


def random_halves(windows: Windows, seed: int) -> Windows:
    """Random halves of the reference window's pages: nothing differs between them but chance (A/A).

    By page, not by user: both windows hold the same users, whose steady tastes are no noise between them.
    """
    half = f"CASE WHEN md5(request_id || '{seed}') < '8' THEN 'reference' ELSE 'current' END"
    return Windows(
        log=f"CASE WHEN ({windows.log}) = 'reference' THEN {half} END",
        predictions=f"CASE WHEN ({windows.predictions}) = 'reference' THEN {half} END",
        week=windows.week,
    )


def describe(connection: duckdb.DuckDBPyConnection, windows: Windows) -> dict[str, dict[str, object]]:
    """Per window its first and last moment (ISO, UTC), pages and events."""
    rows = connection.execute(
        "SELECT period, min(moment)::varchar, max(moment)::varchar, count(DISTINCT (user_id, request_id)), count(*) "
        f"FROM (SELECT *, {windows.log} AS period FROM events) WHERE period IS NOT NULL GROUP BY 1"
    ).fetchall()
    return {row[0]: dict(zip(("start", "end", "pages", "events"), row[1:], strict=True)) for row in rows}


def pairs(
    connection: duckdb.DuckDBPyConnection, windows: Windows, config: MonitorConfig, like: list[Pair] | None = None
) -> list[Pair]:
    """Samples of every watched column. With `like`, no window is larger than the current one there.

    An A/A comparison of the current window's size shows the noise that a comparison with that window has.
    """
    sizes = {(pair.kind, pair.column): len(pair.current) for pair in like or []}
    found = []
    for kind, columns, source in _grains(connection, windows):
        size = min(config.sample_rows, *(sizes.get((kind, column), config.sample_rows) for column in columns))
        frames = {
            period: connection.execute(
                # A sample is taken before WHERE of the same query: so the window is cut inside.
                f"SELECT * EXCLUDE (period) FROM (FROM ({source}) WHERE period = '{period}') "
                f"USING SAMPLE reservoir({size} ROWS) REPEATABLE ({config.seed})"
            ).df()
            for period in ("reference", "current")
        }
        for column in columns:
            reference, current = frames["reference"][column], frames["current"][column]
            if len(reference) and len(current) and (reference.notna().any() or current.notna().any()):
                found.append(Pair(kind=kind, column=column, reference=reference, current=current))
    return found


def _grains(connection: duckdb.DuckDBPyConnection, windows: Windows) -> list[tuple[str, list[str], str]]:
    """(kind, columns, SQL with these columns and `period`) for each grain."""
    held = [row[0] for row in connection.execute("DESCRIBE items").fetchall()]
    codes = [name for name in held if name.startswith("code_")]
    attributes = [name for name in held if name != "item_id" and name not in codes]
    tables = {row[0] for row in connection.execute("SHOW TABLES").fetchall()}
    log = f"(SELECT *, {windows.log} AS period FROM events)"
    of_items = [f'"{name}"' for name in attributes]
    grains = [
        _grain("inputs", ["behaviour", "value", "scenario", *of_items], f"{log} LEFT JOIN items USING (item_id)"),
        _grain(
            "inputs",
            ["hour", "weekday", '"items a page"', '"value a page"'],
            "(SELECT any_value(period) AS period, hour(any_value(moment)) AS hour, "
            'dayname(any_value(moment)) AS weekday, count(*) AS "items a page", sum(value) AS "value a page" '
            f"FROM {log} GROUP BY user_id, request_id)",
        ),
        _grain(
            "inputs",
            ['"pages a user week"', '"items a user week"'],
            '(SELECT period, count(DISTINCT request_id) AS "pages a user week", count(*) AS "items a user week" '
            f"FROM {log} WHERE ({windows.week}) IS NOT NULL GROUP BY user_id, {windows.week}, period)",
        ),
        _grain("occupancy", codes, f"{log} LEFT JOIN items USING (item_id) WHERE behaviour <> 'exposed'"),
    ]
    if "predicted" in tables:
        seen = f"(SELECT *, {windows.predictions} AS period FROM predicted)"
        renamed = [f'{name} AS "predicted {name.strip(chr(34))}"' for name in (*of_items, *codes)]
        columns = ["score", 'popularity AS "predicted popularity"', *renamed]
        grains.append(_grain("predictions", columns, f"{seen} LEFT JOIN items USING (item_id)"))
    return grains


def _grain(kind: str, columns: list[str], source: str) -> tuple[str, list[str], str]:
    names = [column.split(" AS ")[-1].strip('"') for column in columns]
    return kind, names, f"SELECT period, {', '.join(columns)} FROM {source}"


def quality(connection: duckdb.DuckDBPyConnection, windows: Windows, config: MonitorConfig) -> list[Pair]:
    """Per request of the predictions: was there a hit in the first ranks, and the reciprocal rank of the first hit."""
    hit_rate = f"HR@{config.hits_at}"
    frame = connection.execute(
        f"SELECT any_value(period) AS period, max((hit AND position < {config.hits_at})::int)::double AS hit_rate, "
        "max(CASE WHEN hit THEN 1 / (position + 1) ELSE 0 END)::double AS reciprocal_rank "
        f"FROM (SELECT *, {windows.predictions} AS period FROM predicted) WHERE period IS NOT NULL GROUP BY request_id"
    ).df()
    reference, current = (frame[frame["period"] == period] for period in ("reference", "current"))
    return [
        Pair(kind="quality", column=name, reference=reference[column], current=current[column])
        for name, column in ((hit_rate, "hit_rate"), ("MRR", "reciprocal_rank"))
    ]
