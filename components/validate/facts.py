"""The facts that the suites judge: one row of numbers and flags for each row of a table.

Great Expectations evaluates on pandas, where text is slow and large. So a text column is read as codes into its
distinct values, each of those is measured once, and rows are compared by code. What is sound is said in the suites
alone. Times are epoch seconds: bounds on date columns fail on good data. Whole numbers are int64: Great Expectations
loops in Python over any narrower ones.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nextpage.interactions.log import Dataset, Split

if TYPE_CHECKING:
    import pandas as pd

CONTROL = r"[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]"
"""Characters that no id holds: control and format characters, line and paragraph separators."""
TEXT_CONTROL = r"[\x00-\x08\x0B\x0C\x0E-\x1F\x7F]"
"""Characters that no text holds: control characters other than tab and line ends."""


Columns = Mapping[str, pa.Array]
UNITS_A_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def read_columns(path: Path, *, text: Collection[str], other: Collection[str] = ()) -> Columns:
    """Columns of a Parquet file, each as one array; those of `text` as codes into their distinct values."""
    table = pq.read_table(path, columns=[*text, *other], read_dictionary=list(text))
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    return columns | {
        name: columns[name] if pa.types.is_dictionary(columns[name].type) else columns[name].dictionary_encode()
        for name in text
    }


def schema_facts(types: Mapping[str, str], asked: Collection[str]) -> "pd.DataFrame":
    """One row: the type of each column asked for; `further columns` is `string` or `none` where they are sound."""
    import pandas as pd

    missing = "absent among " + ", ".join(types)
    optional = {"value", "scenario"}
    facts = {name: types.get(name, "absent" if name in optional else missing) for name in asked}
    if "further columns" in asked:
        others = {name: kind for name, kind in types.items() if name not in asked}
        wrong = [f"{name} is {kind}" for name, kind in others.items() if kind != "string"]
        facts["further columns"] = ", ".join(wrong) or ("string" if others else "none")
    return pd.DataFrame([facts])


def interaction_row_facts(log: Columns) -> "pd.DataFrame":
    """What each row of the log says by itself."""
    import pandas as pd

    stated = log.get("value", pa.nulls(len(log["page"]))).cast(pa.float64())
    value = stated.to_numpy(zero_copy_only=False)
    return pd.DataFrame(
        _id_facts(log, "user_id")
        | _id_facts(log, "request_id")
        | _id_facts(log, "item_id")
        | {
            "page": _numbers(log["page"]),
            "position": _numbers(log["position"]),
            "behaviour": log["behaviour"].to_pandas(),
            "time": _numbers(log["timestamp"]) / UNITS_A_SECOND[log["timestamp"].type.unit],
            "value": np.where(np.isfinite(value), value, np.nan),
            "value_finite": stated.is_null().to_numpy(zero_copy_only=False) | np.isfinite(value),
        },
        copy=False,
    )


def interaction_relation_facts(log: Columns, sound: np.ndarray, known_items: pa.Array) -> "pd.DataFrame":
    """How each sound row of the log stands to the other sound rows and to the known items; `sound` is bool [rows].

    Pages are judged in turn: requests that contradict themselves, then page numbers that requests share, then order, so
    that one wrong request does not condemn its neighbours.
    """
    import pandas as pd

    rows = pd.DataFrame(
        {name: _codes(log[name])[sound] for name in ("user_id", "request_id", "item_id", "behaviour")}
        | {name: _numbers(log[name])[sound] for name in ("page", "position", "timestamp")},
        index=np.flatnonzero(sound),
    )
    pages = rows[["request_id", "user_id", "page", "timestamp"]].drop_duplicates()
    of_request = pages.groupby("request_id")
    requests = pd.DataFrame(
        {
            "request_users": of_request["user_id"].nunique(),
            "request_pages": of_request["page"].nunique(),
            "request_moments": of_request["timestamp"].nunique(),
        }
    )
    whole = pages[pages["request_id"].map((requests == 1).all(axis=1)).to_numpy(bool)].set_index("request_id")
    sharing = whole.groupby(["user_id", "page"])["timestamp"].transform("size")
    placed = whole[sharing == 1].sort_values(["user_id", "page"])
    in_order = placed["timestamp"] == placed.groupby("user_id")["timestamp"].cummax()
    requests["page_requests"] = sharing.reindex(requests.index, fill_value=1)
    requests["page_in_order"] = in_order.reindex(requests.index, fill_value=True)
    facts = requests.loc[rows["request_id"]].set_index(rows.index)
    known = pc.is_in(log["item_id"].dictionary, value_set=known_items).to_numpy(zero_copy_only=False)
    return facts.assign(item_known=known[rows["item_id"]], repeats=rows.duplicated())


def item_row_facts(items: Columns) -> "pd.DataFrame":
    """What each item says by itself."""
    import pandas as pd

    text = items["text"]
    marred = pc.match_substring_regex(text.dictionary, TEXT_CONTROL)
    facts = {"text_length": _lengths(text), "text_control": _spread(marred, text)}
    return pd.DataFrame(_id_facts(items, "item_id") | facts, copy=False)


def user_row_facts(users: Columns) -> "pd.DataFrame":
    """What each user's row says by itself."""
    import pandas as pd

    return pd.DataFrame(_id_facts(users, "user_id"), copy=False)


def repeat_facts(ids: pa.DictionaryArray, sound: np.ndarray) -> "pd.DataFrame":
    """Whether a sound row has the id of a sound row above it; `sound` is bool [rows]."""
    import pandas as pd

    codes = pd.Series(_codes(ids)[sound], index=np.flatnonzero(sound))
    return pd.DataFrame({"repeats": codes.duplicated()})


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
                   (SELECT count(*) FROM (SELECT user_id FROM log GROUP BY user_id
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


def _id_facts(columns: Columns, name: str) -> dict[str, np.ndarray]:
    """Length, and whether an id that is not blank holds control characters or outer blanks."""
    column = columns[name]
    bare = pc.utf8_trim_whitespace(column.dictionary)
    marred = pc.or_(pc.match_substring_regex(bare, CONTROL), pc.not_equal(bare, column.dictionary))
    return {
        f"{name}_length": _lengths(column),
        f"{name}_stray": _spread(pc.and_(marred, pc.not_equal(bare, "")), column),
    }


def _lengths(column: pa.DictionaryArray) -> np.ndarray:
    """Characters without outer blanks; NaN where null."""
    length = pc.utf8_length(pc.utf8_trim_whitespace(column.dictionary))
    return _numbers(length.take(column.indices))


def _spread(flags: pa.BooleanArray, column: pa.DictionaryArray) -> np.ndarray:
    """Flags of the distinct values as flags of the rows; false where the row is null."""
    return flags.take(column.indices).fill_null(False).to_numpy(zero_copy_only=False)


def _codes(column: pa.DictionaryArray) -> np.ndarray:
    """int32 [rows]; −1 where null."""
    return column.indices.fill_null(-1).to_numpy()


def _numbers(column: pa.Array) -> np.ndarray:
    """int64 [rows], times in their own unit; float64 with NaN where there are nulls."""
    whole = column.cast(pa.int64())
    return (whole if whole.null_count == 0 else whole.cast(pa.float64(), safe=False)).to_numpy(zero_copy_only=False)
