"""Seconds and peak memory to make the features of The Complete Journey, and milliseconds to read and push them online.

    python benchmarks/features.py

Bounds of ours for all households on two cores: 60 s and 3,000 MB to make them.
"""

import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from components.features.step import build_features
from components.measure import measured
from feature_repo.merge import Event
from nextpage.interactions.loaders import Source, load
from nextpage.interactions.slices import FeaturesConfig

READS = 5_000
PUSHES = 200


def milliseconds(call: Callable[[int], object], times: int) -> str:
    """p50 and p99 of `times` calls, one after the other."""
    took = np.empty(times)
    for number in range(times):
        start = time.perf_counter()
        call(number)
        took[number] = time.perf_counter() - start
    p50, p99 = np.percentile(took, [50, 99]) * 1000
    return f"{p50:.2f} | {p99:.2f}"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder))


def measure(folder: Path) -> None:
    dataset = load(Source(), folder / "dataset")
    with measured() as cost:
        summary = build_features(dataset.folder, folder / "features", FeaturesConfig())
    size = sum(path.stat().st_size for path in (folder / "features").iterdir())
    print("| events | training rows | evaluation rows | folder, MB | seconds | peak memory, MB |\n" + "|---:" * 6 + "|")
    print(
        f"| {summary['events']:,} | {summary['training_rows']:,} | {summary['evaluation_rows']:,} | {size / 1e6:.0f} "
        f"| {cost.seconds:.1f} | {cost.peak_memory_mb:,.0f} |\n"
    )
    from feature_repo.online import OnlineFeatures

    online = OnlineFeatures(folder / "features", version=summary["version"])
    drawn = np.random.default_rng(0)
    users = drawn.choice(pq.read_table(dataset.interactions, columns=["user_id"])["user_id"].unique(), READS)
    item = pq.read_table(dataset.items)["item_id"][0].as_py()
    start = datetime(2018, 2, 1, tzinfo=UTC)

    def push(number: int) -> None:
        moment = start + timedelta(seconds=number)
        event = Event(user_id=str(users[number]), item_id=item, behaviour="clicked", timestamp=moment)
        online.push([event])

    online.history(str(users[0]))
    print("| online | p50, ms | p99, ms |\n|---|---:|---:|")
    print(f"| read a history | {milliseconds(lambda number: online.history(str(users[number])), READS)} |")
    print(f"| push an event | {milliseconds(push, PUSHES)} |")


if __name__ == "__main__":
    main()
