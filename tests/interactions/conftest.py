from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nextpage.interactions.loaders import Source, load
from nextpage.interactions.log import INTERACTION_SCHEMA, Dataset, Split


@pytest.fixture(scope="session")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The Complete Journey of forty households."""
    return load(Source(options={"households": 40}), tmp_path_factory.mktemp("journey"))


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Dataset]:
    """Write a log of `(user, page, item, behaviour, seconds since 1970)` rows, each page its user's own."""

    def write(rows: list[tuple[str, int, str, str, int]], split: Split) -> Dataset:
        dataset = Dataset(folder=tmp_path)
        table = pa.Table.from_pylist(
            [
                {
                    "user_id": user,
                    "request_id": f"{user}-{page}",
                    "page": page,
                    "position": position,
                    "item_id": item,
                    "behaviour": behaviour,
                    "timestamp": seconds * 1_000_000,
                }
                for position, (user, page, item, behaviour, seconds) in enumerate(rows)
            ],
            schema=INTERACTION_SCHEMA,
        )
        pq.write_table(table, dataset.interactions)
        dataset.write_split(split)
        return dataset

    return write
