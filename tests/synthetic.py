"""A small log with a planted structure: households that repeat, and categories that follow one another."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nextpage.interactions.log import INTERACTION_SCHEMA, Dataset, Split

START = datetime(2024, 1, 1, tzinfo=UTC)
CATEGORIES = ("milk", "bread", "fruit", "coffee", "soap", "pasta", "cheese", "tea")


def write_dataset(folder: Path, *, users: int = 60, items: int = 200, pages: int = 16, seed: int = 0) -> Dataset:
    """Each user owns a dozen favourites and fills pages from them four times of five; one page every two days.

    Training lasts all but the last four pages; two pages each are validation and test.
    """
    draw = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    dataset = Dataset(folder=folder)
    item_ids = [f"i{row:04d}" for row in range(items)]
    category = [CATEGORIES[row % len(CATEGORIES)] for row in range(items)]
    brand = [f"brand {row % 7}" for row in range(items)]
    text = [f"{category[row]} {brand[row]} kind {row // len(CATEGORIES)}" for row in range(items)]
    pq.write_table(pa.table({"item_id": item_ids, "text": text, "category": category, "brand": brand}), dataset.items)
    user_ids = [f"u{row:03d}" for row in range(users)]
    age = [("19-24", "25-34", "65+")[row % 3] for row in range(users)]
    pq.write_table(pa.table({"user_id": user_ids, "age": age}), dataset.users)

    rows: list[dict[str, object]] = []
    popularity = 1.0 / np.arange(1, items + 1)
    for user in user_ids:
        own = draw.choice(items, size=12, replace=False, p=popularity / popularity.sum())
        for page in range(pages):
            moment = START + timedelta(days=2 * page, seconds=int(draw.integers(36_000, 72_000)))
            chosen = {int(draw.choice(own)) if draw.random() < 0.8 else int(draw.integers(items)) for _ in range(6)}
            for position, row in enumerate(sorted(chosen)):
                behaviour = ("ordered", "ordered", "ordered", "clicked", "exposed")[position % 5]
                rows.append(
                    {
                        "user_id": user,
                        "request_id": f"{user}-{page}",
                        "page": page,
                        "position": position,
                        "item_id": item_ids[row],
                        "behaviour": behaviour,
                        "timestamp": moment,
                        "value": float(draw.integers(1, 900)) / 100 if behaviour == "ordered" else None,
                        "scenario": None,
                    }
                )
    pq.write_table(pa.Table.from_pylist(rows, schema=INTERACTION_SCHEMA), dataset.interactions)
    dataset.write_split(
        Split(
            kind="time",
            validation_start=START + timedelta(days=2 * (pages - 4)),
            test_start=START + timedelta(days=2 * (pages - 2)),
        )
    )
    return dataset
