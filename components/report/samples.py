"""A few predicted pages beside what the user chose before and on that page."""

from pathlib import Path
from typing import Any

import duckdb

from nextpage.interactions.log import Dataset

PAGES = 4
LONGEST = 10
"""Items of a list that are shown."""

CHOSEN_LAST = """
    SELECT item_id, text FROM log WHERE user_id = ? AND timestamp < ? GROUP BY ALL ORDER BY max(timestamp) DESC, item_id
    LIMIT ?
"""
CHOSEN_NEXT = """
    SELECT item_id, text FROM log WHERE user_id = ? AND request_id = ? GROUP BY ALL ORDER BY min(position)
"""
RECOMMENDED = "SELECT item_id, text FROM predicted WHERE request_id = ? ORDER BY position LIMIT ?"
SOME_PAGES = """
    SELECT request_id, user_id, min(timestamp) FROM log WHERE request_id IN (SELECT request_id FROM predicted)
    GROUP BY request_id, user_id ORDER BY md5(request_id) LIMIT ?
"""


def read_samples(predictions: Path, clean: Path) -> list[dict[str, Any]]:
    """Pages drawn by a hash, not by how well they went.

    Each has `user_id`; `history`, `recommended` and `next`: lists of {item_id, text}, the latest and the best first;
    `hits`: ids of the recommended items that the user chose on that page; `more`: how many of `next` were cut off.
    """
    data = Dataset(folder=clean)
    with duckdb.connect() as connection:
        connection.execute(
            f"CREATE VIEW log AS FROM '{data.interactions}' JOIN '{data.items}' USING (item_id) "
            "WHERE behaviour <> 'exposed'"
        )
        connection.execute(
            f"CREATE VIEW predicted AS FROM read_parquet('{predictions}') JOIN '{data.items}' USING (item_id)"
        )
        return [
            _sample(connection, request, user, moment)
            for request, user, moment in connection.execute(SOME_PAGES, [PAGES]).fetchall()
        ]


def _sample(connection: duckdb.DuckDBPyConnection, request: str, user: str, moment: object) -> dict[str, Any]:
    def items(query: str, *values: object) -> list[dict[str, str]]:
        rows = connection.execute(query, values).fetchall()
        return [{"item_id": item_id, "text": text} for item_id, text in rows]

    chosen = items(CHOSEN_NEXT, user, request)
    recommended = items(RECOMMENDED, request, LONGEST)
    hits = {item["item_id"] for item in recommended} & {item["item_id"] for item in chosen}
    return {
        "user_id": user,
        "history": items(CHOSEN_LAST, user, moment, LONGEST),
        "recommended": recommended,
        # What came true stands first, so that it is seen where the list is cut.
        "next": sorted(chosen, key=lambda item: item["item_id"] not in hits)[:LONGEST],
        "hits": hits,
        "more": max(0, len(chosen) - LONGEST),
    }
