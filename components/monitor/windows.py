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

PREDICTION_COLUMNS = ("request_id", "timestamp", "position", "item_id", "score")
"""One row a recommended item. `position` counts from 0; `score` may be null. A hit is a prediction whose item the
log's page of the same request shows as clicked or ordered."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One column of the two windows: raw values, nulls included."""

    kind: str
    column: str
    reference: "pd.Series"
    current: "pd.Series"


@dataclass(frozen=True, kw_only=True)
class Windows:
    """SQL over a row's `moment` and `request_id` that gives 'reference', 'current' or null; for log and predictions."""

    log: str
    predictions: str


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
    held = {row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM '{predictions}'").fetchall()}
    missing = [name for name in PREDICTION_COLUMNS if name not in held]
    if missing:
        raise ValueError(f"predictions {predictions} lack {', '.join(missing)}: needed are {PREDICTION_COLUMNS}")
    connection.execute(
        f"CREATE TABLE predicted AS SELECT p.* EXCLUDE (timestamp), make_timestamp(epoch_us(p.timestamp)) AS moment, "
        "coalesce(l.uses, 0) AS popularity, h.item_id IS NOT NULL AS hit "
        f"FROM (SELECT {', '.join(PREDICTION_COLUMNS)} FROM '{predictions}') p "
        "LEFT JOIN (SELECT item_id, count(*) AS uses FROM events GROUP BY 1) l USING (item_id) "
        "LEFT JOIN (SELECT DISTINCT request_id, item_id FROM events WHERE behaviour <> 'exposed') h "
        "USING (request_id, item_id)"
    )


def time_windows(connection: duckdb.DuckDBPyConnection, config: MonitorConfig) -> Windows:
    """The first weeks against the last ones; predictions on their own clock, the later half against the earlier.

    A log shorter than both windows gives its last quarter at most to the current one, and the reference ends before it.
    """
    current = "last - least(to_days(7 * {current}), (last - first) / 4)"
    reference = f"least(first + to_days(7 * {{reference}}), {current})"
    bounds = (
        f"SELECT {current} AS since, {reference} AS until FROM (SELECT min(moment) first, max(moment) last FROM events)"
    )
    query = bounds.format(current=config.current_weeks, reference=config.reference_weeks)
    since, until = connection.execute(query).fetchone()  # type: ignore[misc]
    log = (
        f"CASE WHEN moment < TIMESTAMP '{until}' THEN 'reference' WHEN moment >= TIMESTAMP '{since}' THEN 'current' END"
    )
    middle = "(SELECT median(moment) FROM predicted)"
    return Windows(log=log, predictions=f"CASE WHEN moment < {middle} THEN 'reference' ELSE 'current' END")


def random_halves(windows: Windows, seed: int) -> Windows:
    """Random halves of the reference window's pages: nothing differs between them but chance (A/A).

    By page, not by user: both windows hold the same users, whose steady tastes are no noise between them.
    """
    half = f"CASE WHEN md5(request_id || '{seed}') < '8' THEN 'reference' ELSE 'current' END"
    return Windows(
        log=f"CASE WHEN ({windows.log}) = 'reference' THEN {half} END",
        predictions=f"CASE WHEN ({windows.predictions}) = 'reference' THEN {half} END",
    )


def describe(connection: duckdb.DuckDBPyConnection, windows: Windows) -> dict[str, dict[str, object]]:
    """Per window its first and last moment (ISO, UTC), pages and events."""
    rows = connection.execute(
        "SELECT period, min(moment)::varchar, max(moment)::varchar, count(DISTINCT request_id), count(*) "
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
                f"SELECT * EXCLUDE (period) FROM ({source}) WHERE period = '{period}' "
                f"USING SAMPLE reservoir({size} ROWS) REPEATABLE ({config.seed})"
            ).df()
            for period in ("reference", "current")
        }
        for column in columns:
            reference, current = frames["reference"][column], frames["current"][column]
            if reference.notna().any() or current.notna().any():
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
            f"FROM {log} GROUP BY request_id)",
        ),
        _grain(
            "inputs",
            ['"pages a user week"', '"items a user week"'],
            '(SELECT period, count(DISTINCT request_id) AS "pages a user week", count(*) AS "items a user week" '
            f"FROM {log} GROUP BY user_id, date_trunc('week', moment), period)",
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
