"""What each step costs for a unit of data, and what that comes to at 10⁸ users, 10⁷ items and 10¹⁰ events.

    python benchmarks/scale.py [--events 100000 200000 400000] [--items 40000 80000 160000] [--engine duckdb]

Each part runs at three sizes, each in a process of its own, on a log of 100 events a user that this file makes up.
CPU seconds of all its threads are fitted by a line, and so is peak memory: the slope is what a unit costs, the rest is
what a start costs. Items are more than a batch of k-means holds (32,768), beyond which it costs no more. On Spark the
JVM's CPU seconds are not seen from here, so there the seconds are those of the clock.
"""

import argparse
import multiprocessing
import resource
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.measure import measured
from nextpage.interactions.log import BEHAVIOURS, INTERACTION_SCHEMA, Dataset, Split

TARGET = {"event": 10**10, "item": 10**7}
USER_EVENTS, PAGE_ITEMS, EVENTS_AN_ITEM = 100, 10, 50
START = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Work whose cost grows with `unit`s; `work(dataset, scratch, engine)`."""

    name: str
    unit: str
    work: Callable[[Dataset, Path, str], object]


def write_log(folder: Path, *, events: int, items: int) -> Dataset:
    """A year of users with `USER_EVENTS` events each, `PAGE_ITEMS` a page; popularity falls as 1 / rank."""
    draw = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    dataset = Dataset(folder=folder)
    users, pages = events // USER_EVENTS, USER_EVENTS // PAGE_ITEMS
    user = np.repeat(np.arange(users), USER_EVENTS)
    page = np.tile(np.repeat(np.arange(pages), PAGE_ITEMS), users)
    second = np.sort(draw.integers(365 * 86_400, size=(users, pages)), axis=1)[user, page]
    popularity = 1.0 / np.arange(1, items + 1)
    item = draw.choice(items, size=len(user), p=popularity / popularity.sum())
    columns = {
        "user_id": np.char.add("u", user.astype(str)),
        "request_id": np.char.add(np.char.add(user.astype(str), "-"), page.astype(str)),
        "page": page,
        "position": np.tile(np.arange(PAGE_ITEMS), users * pages),
        "item_id": np.char.add("i", item.astype(str)),
        "behaviour": np.array(BEHAVIOURS)[draw.choice(3, size=len(user), p=[0.7, 0.2, 0.1])],
        "timestamp": pa.array((second + int(START.timestamp())) * 1_000_000).cast(pa.timestamp("us", tz="UTC")),
        "value": pa.nulls(len(user), pa.float64()),
        "scenario": pa.nulls(len(user), pa.string()),
    }
    pq.write_table(pa.table(columns, schema=INTERACTION_SCHEMA), dataset.interactions)
    names = [f"i{row}" for row in range(items)]
    words = draw.integers(2_000, size=(items, 8)).tolist()
    texts = [" ".join(f"word{word}" for word in text) for text in words]
    pq.write_table(pa.table({"item_id": names, "text": texts}), dataset.items)
    pq.write_table(pa.table({"user_id": [f"u{row}" for row in range(users)]}), dataset.users)
    moments = {"validation_start": START + timedelta(days=330), "test_start": START + timedelta(days=348)}
    dataset.write_split(Split(kind="time", **moments))
    return dataset


def validate(dataset: Dataset, scratch: Path, engine: str) -> None:
    from components.validate.bounds import ValidationBounds
    from components.validate.step import validate as judge

    bounds = ValidationBounds(max_duplicate_share=1.0, max_quarantined_share=1.0)
    judge(dataset.folder, scratch / "clean", scratch / "quarantine", scratch / "docs", bounds)


def features(dataset: Dataset, scratch: Path, engine: str) -> None:
    from components.features.step import build_features
    from nextpage.interactions.slices import FeaturesConfig

    build_features(dataset.folder, scratch / "features", FeaturesConfig(), engine=engine)


def company(dataset: Dataset, scratch: Path, engine: str) -> None:
    from nextpage.catalogue.pages import page_items
    from nextpage.catalogue.ppmi import ppmi, singular_vectors
    from nextpage.interactions.histories import training_histories

    names = pq.read_table(dataset.items)["item_id"].to_pylist()
    pages = page_items(training_histories(dataset, names), len(names))
    singular_vectors(ppmi(pages), dimensions=64, seed=0)


def embed(dataset: Dataset, scratch: Path, engine: str) -> None:
    from nextpage.catalogue.text import encode_texts, text_encoder

    encode_texts(text_encoder("wordllama"), pq.read_table(dataset.items)["text"].to_pylist())


def cluster(dataset: Dataset, scratch: Path, engine: str) -> None:
    from nextpage.tokenizers.residual_kmeans import ResidualKMeans, ResidualKMeansConfig
    from nextpage.tokenizers.unique_codes import assign

    items = pq.read_metadata(dataset.items).num_rows
    vectors = np.random.default_rng(0).normal(size=(items, 320)).astype(np.float32)
    assign(ResidualKMeans(ResidualKMeansConfig()).fit(vectors), vectors, popularity=np.zeros(items))


PARTS = (
    Part(name="validate", unit="event", work=validate),
    Part(name="features", unit="event", work=features),
    Part(name="tokenize: which items go together", unit="event", work=company),
    Part(name="tokenize: texts to vectors", unit="item", work=embed),
    Part(name="tokenize: vectors to codes", unit="item", work=cluster),
)


def cpu_seconds() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def measure(part: Part, size: int, engine: str, results: "multiprocessing.Queue[tuple[float, float]]") -> None:
    """Put seconds and peak memory (GB) of the part at a size, without making the log."""
    with tempfile.TemporaryDirectory() as folder:
        events, items = (size, size // EVENTS_AN_ITEM) if part.unit == "event" else (10_000, size)
        dataset = write_log(Path(folder) / "dataset", events=events, items=items)
        before = cpu_seconds()
        with measured() as cost:
            part.work(dataset, Path(folder), engine)
        on_clock = engine == "spark" and part.work is features
        results.put((cost.seconds if on_clock else cpu_seconds() - before, cost.peak_memory_mb / 1024))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, nargs=3, default=[100_000, 200_000, 400_000])
    parser.add_argument("--items", type=int, nargs=3, default=[40_000, 80_000, 160_000])
    parser.add_argument("--engine", choices=["duckdb", "spark"], default="duckdb")
    arguments = parser.parse_args()
    sizes = {"event": arguments.events, "item": arguments.items}
    spawn = multiprocessing.get_context("spawn")
    print(
        f"| part | unit | seconds at {sizes['event']} events or {sizes['item']} items | µs a unit | bytes a unit ",
        end="",
    )
    print("| core hours at the target | memory there on one machine, GB |\n|---|---|---|---:|---:|---:|---:|")
    for part in PARTS:
        found = []
        for size in sizes[part.unit]:
            results = spawn.Queue()
            process = spawn.Process(target=measure, args=(part, size, arguments.engine, results))
            process.start()
            found.append(results.get(timeout=3_600))
            process.join()
        seconds, memory = np.array(found).T
        slope, held = (max(0.0, np.polyfit(sizes[part.unit], values, 1)[0]) for values in (seconds, memory))
        target = TARGET[part.unit]
        shown = ", ".join(f"{value:.1f}" for value in seconds)
        print(
            f"| {part.name} | {part.unit} | {shown} | {slope * 1e6:,.1f} | {held * 2**30:,.0f} "
            f"| {slope * target / 3600:,.1f} | {held * target:,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
