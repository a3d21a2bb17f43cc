"""The table of held-out pages, as a features folder has it, straight from a log."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nextpage.interactions.log import BEHAVIOURS, Dataset


def write_evaluation(dataset: Dataset, path: Path, *, first_page: int) -> None:
    """Each user's pages from `first_page` on, and all that was before each."""
    by_user: dict[str, list[dict[str, object]]] = {}
    for row in pq.read_table(dataset.interactions).to_pylist():
        by_user.setdefault(row["user_id"], []).append(row)
    rows = []
    for user, log in by_user.items():
        for number in sorted({row["page"] for row in log if row["page"] >= first_page}):
            before = [row for row in log if row["page"] < number]
            (page, *_) = (row for row in log if row["page"] == number)
            rows.append(
                {
                    "user_id": user,
                    "as_of": page["timestamp"],
                    "request_id": page["request_id"],
                    "split": "test",
                    "history_item": [row["item_id"] for row in before],
                    "history_behaviour": [BEHAVIOURS.index(row["behaviour"]) for row in before],
                    "history_page": [row["page"] for row in before],
                    "history_time": [int(row["timestamp"].timestamp()) for row in before],
                }
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
