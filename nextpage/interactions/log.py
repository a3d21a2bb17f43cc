"""The one schema of a log, and the folder that holds a dataset.

A dataset is a folder:

- `interactions.parquet`: one row per shown item, `INTERACTION_SCHEMA`;
- `items.parquet`: `item_id`, `text`, and any further string columns as attributes (`category` where there is one);
- `users.parquet`: `user_id` and any further string columns (no rows where nothing is known of the users);
- `split.json`: how pages divide into training, validation and test.

A *page* is what one request showed. Pages of a user are numbered in time order by the source; a page's rows share
`request_id`, `page` and `timestamp`.
"""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa

BEHAVIOURS = ("exposed", "clicked", "ordered")
"""By intensity, weakest first: a behaviour's place here is its code in arrays."""

INTERACTION_SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("page", pa.int64(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("behaviour", pa.string(), nullable=False),
        pa.field("timestamp", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("scenario", pa.string()),
    ]
)

ITEM_COLUMNS = ("item_id", "text")
USER_COLUMNS = ("user_id",)


@dataclass(frozen=True, kw_only=True)
class Split:
    """How pages divide. `time`: by two moments; `leave_one_out`: each user's last page, and the one before it."""

    kind: str
    validation_start: datetime | None = None
    test_start: datetime | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("time", "leave_one_out"):
            raise ValueError(f"split kind {self.kind!r} is unknown: use 'time' or 'leave_one_out'")
        if self.kind == "time":
            if self.validation_start is None or self.test_start is None:
                raise ValueError("a time split needs validation_start and test_start")
            if not self.validation_start < self.test_start:
                raise ValueError(
                    f"validation_start {self.validation_start} must lie before test_start {self.test_start}"
                )


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The paths of a dataset folder."""

    folder: Path

    @property
    def interactions(self) -> Path:
        return self.folder / "interactions.parquet"

    @property
    def items(self) -> Path:
        return self.folder / "items.parquet"

    @property
    def users(self) -> Path:
        return self.folder / "users.parquet"

    def split(self) -> Split:
        raw = json.loads((self.folder / "split.json").read_text())
        for moment in ("validation_start", "test_start"):
            if raw.get(moment) is not None:
                raw[moment] = datetime.fromisoformat(raw[moment])
        return Split(**raw)

    def write_split(self, split: Split) -> None:
        (self.folder / "split.json").write_text(json.dumps(asdict(split), default=datetime.isoformat, indent=1))
