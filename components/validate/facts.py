"""The facts that the suites judge, measured with DuckDB: one row of numbers and flags a row of the table.

Great Expectations evaluates on pandas, where text is slow and large. So text is measured here, once, in compiled code:
lengths, stray characters, repeats, and how a row stands to the others. Which values are sound is said in the suites
alone. Times are epoch seconds: bounds on date columns fail on good data.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa

from nextpage.interactions.log import INTERACTION_SCHEMA, Dataset, Split

if TYPE_CHECKING:
    import pandas as pd

BLANKS = "E' \\t\\r\\n'"
STRAY = r"[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]|^\p{Z}|\p{Z}$"
"""In an id: control and format characters anywhere, blanks at an end."""
TEXT_CONTROL = r"[\x00-\x08\x0B\x0C\x0E-\x1F\x7F]"
"""In a text: control characters other than tab and line ends."""


def schema_facts(types: Mapping[str, str], asked: Collection[str]) -> "pd.DataFrame":
    """One row: the type of each column asked for; `further columns` is `string` or `none` where all others are sound."""
    import pandas as pd

    others = {name: kind for name, kind in types.items() if name not in asked}
    wrong = [f"{name} is {kind}" for name, kind in others.items() if kind != "string"]
    facts = {name: types.get(name, "absent") for name in asked}
    if "further columns" in asked:
        facts["further columns"] = ", ".join(wrong) or ("string" if others else "none")
    return pd.DataFrame([facts])


def interaction_row_facts(path: Path, columns: Collection[str]) -> "pd.DataFrame":
    """What each row of the log says by itself."""
    value = "value::DOUBLE" if "value" in columns else "NULL::DOUBLE"
    return _frame(
        f"""
        SELECT file_row_number AS row, {_id("user_id")}, {_id("request_id")}, {_id("item_id")},
               page, position, behaviour, epoch_us(timestamp) / 1e6 AS time,
               CASE WHEN isfinite({value}) THEN {value} END AS value,
               coalesce(isfinite({value}), true) AS value_finite
        FROM read_parquet(?, file_row_number = true)
        """,
        [str(path)],
    )


def interaction_relation_facts(path: Path, faulty: np.ndarray, items: Path, faulty_items: np.ndarray) -> "pd.DataFrame":
    """How each sound row of the log stands to the other sound rows and to the sound items.

    Pages are judged in turn: requests that contradict themselves, then page numbers that requests share, then order, so
    that one wrong request does not condemn its neighbours.
    """
    key = ", ".join(name for name in INTERACTION_SCHEMA.names if name not in ("value", "scenario"))
    return _frame(
        f"""
        WITH sound AS (
            SELECT *, hash({key}) AS key FROM read_parquet(?, file_row_number = true)
            ANTI JOIN faulty ON file_row_number = faulty.row
        ), known AS (
            SELECT DISTINCT item_id FROM read_parquet(?, file_row_number = true)
            ANTI JOIN faulty_items ON file_row_number = faulty_items.row
        ), copies AS (
            SELECT file_row_number, row_number() OVER (PARTITION BY {key} ORDER BY file_row_number) - 1 AS copy
            FROM sound WHERE key IN (SELECT key FROM sound GROUP BY key HAVING count(*) > 1)
        ), pages AS (
            SELECT request_id, user_id, page, timestamp FROM sound GROUP BY ALL
        ), requests AS (
            SELECT request_id, count(DISTINCT user_id) AS users, count(DISTINCT page) AS pages,
                   count(DISTINCT timestamp) AS moments
            FROM pages GROUP BY request_id
        ), whole AS (
            SELECT *, count(*) OVER (PARTITION BY user_id, page) AS requests
            FROM pages SEMI JOIN (FROM requests WHERE users = 1 AND pages = 1 AND moments = 1) USING (request_id)
        ), placed AS (
            SELECT request_id, timestamp >= coalesce(max(timestamp) OVER earlier, timestamp) AS in_order
            FROM whole WHERE requests = 1
            WINDOW earlier AS (
                PARTITION BY user_id ORDER BY page ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
        )
        SELECT sound.file_row_number AS row, known.item_id IS NOT NULL AS item_known, coalesce(copy, 0) AS copy,
               requests.users AS request_users, requests.pages AS request_pages, requests.moments AS request_moments,
               coalesce(whole.requests, 1) AS page_requests, coalesce(in_order, true) AS page_in_order
        FROM sound
        JOIN requests USING (request_id)
        LEFT JOIN whole USING (request_id)
        LEFT JOIN placed USING (request_id)
        LEFT JOIN known ON sound.item_id = known.item_id
        LEFT JOIN copies ON sound.file_row_number = copies.file_row_number
        """,
        [str(path), str(items)],
        faulty=faulty,
        faulty_items=faulty_items,
    )


def item_row_facts(path: Path) -> "pd.DataFrame":
    """What each item says by itself."""
    return _frame(
        f"""
        SELECT file_row_number AS row, {_id("item_id")}, length(trim(text, {BLANKS})) AS text_length,
               coalesce(regexp_matches(text, '{TEXT_CONTROL}'), false) AS text_control
        FROM read_parquet(?, file_row_number = true)
        """,
        [str(path)],
    )


def user_row_facts(path: Path) -> "pd.DataFrame":
    """What each user's row says by itself."""
    return _frame(
        f"SELECT file_row_number AS row, {_id('user_id')} FROM read_parquet(?, file_row_number = true)", [str(path)]
    )


def repeat_facts(path: Path, key: str, faulty: np.ndarray) -> "pd.DataFrame":
    """How many sound rows above a sound row have its key: items and users are listed once."""
    return _frame(
        f"""
        SELECT file_row_number AS row, row_number() OVER (PARTITION BY {key} ORDER BY file_row_number) - 1 AS copy
        FROM read_parquet(?, file_row_number = true) ANTI JOIN faulty ON file_row_number = faulty.row
        """,
        [str(path)],
        faulty=faulty,
    )


def dataset_facts(clean: Dataset, split: Split, quarantined: Mapping[str, float], now: float) -> "pd.DataFrame":
    """One row: the figures of the clean data set as a whole; `quarantined` are shares of rows by table."""
    import pandas as pd

    pages = "(SELECT user_id, request_id, any_value(timestamp) AS timestamp FROM log GROUP BY ALL)"
    if split.kind == "time":
        parts = """count(*) FILTER (timestamp < $validation) AS training_pages,
                   count(*) FILTER (timestamp >= $validation AND timestamp < $test) AS validation_pages,
                   count(*) FILTER (timestamp >= $test) AS test_pages"""
        moments = {"validation": split.validation_start, "test": split.test_start}
    else:
        pages = f"(SELECT row_number() OVER (PARTITION BY user_id ORDER BY timestamp DESC) AS back FROM {pages})"
        parts = """count(*) FILTER (back > 2) AS training_pages, count(*) FILTER (back = 2) AS validation_pages,
                   count(*) FILTER (back = 1) AS test_pages"""
        moments = {}
    with duckdb.connect() as connection:
        connection.execute(f"CREATE VIEW log AS FROM '{clean.interactions}'")
        whole = connection.execute(
            """
            SELECT count(*) AS interactions, count(DISTINCT user_id) AS users, count(DISTINCT item_id) AS items,
                   (SELECT count(*) FROM (FROM log SELECT user_id GROUP BY user_id
                    HAVING count(DISTINCT request_id) > 1)) AS returning_users,
                   count(*) FILTER (behaviour <> 'exposed') AS acted_rows,
                   ($now - epoch_us(max(timestamp)) / 1e6) / 86400 AS age_days
            FROM log
            """,
            {"now": now},
        ).df()
        parted = connection.execute(f"SELECT {parts} FROM {pages}", moments).df()
    shares = pd.DataFrame([{f"quarantined_{table}_share": share for table, share in quarantined.items()}])
    return pd.concat([whole, parted, shares], axis=1)


def _id(column: str) -> str:
    return (
        f"length(trim({column}, {BLANKS}))::INTEGER AS {column}_length, "
        f"coalesce(regexp_matches({column}, '{STRAY}') AND {column}_length > 0, false) AS {column}_stray"
    )


def _frame(query: str, parameters: list[str], **rows: np.ndarray) -> "pd.DataFrame":
    """The query's rows with `row` as the index; `rows` are tables of row numbers that the query may name."""
    with duckdb.connect() as connection:
        for name, numbers in rows.items():
            connection.register(name, pa.table({"row": pa.array(numbers, pa.int64())}))
        table = connection.execute(query, parameters).to_arrow_table()
    categories = [field.name for field in table.schema if pa.types.is_string(field.type)]
    return table.to_pandas(categories=categories, self_destruct=True).set_index("row")
