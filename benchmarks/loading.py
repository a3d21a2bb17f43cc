"""Seconds and peak memory to load, page and split The Complete Journey whole, and to read it as arrays.

    python benchmarks/loading.py

Bounds of ours on two cores: 30 s and 2,000 MB to load, page and split. Each stage runs in a process of its own, so
that its peak is its own; CPU seconds are those of all its threads, and do not grow when others use the machine.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from components.measure import measured
from nextpage.interactions.histories import requests, training_histories
from nextpage.interactions.loaders import Source, load
from nextpage.interactions.log import Dataset
from nextpage.interactions.splits import page_splits


def load_and_page(folder: Path) -> str:
    return f"{pq.read_metadata(load(Source(), folder).interactions).num_rows:,} events"


def split(folder: Path) -> str:
    return f"{page_splits(Dataset(folder=folder)).num_rows:,} pages"


def training(folder: Path) -> str:
    dataset = Dataset(folder=folder)
    return f"{len(training_histories(dataset, item_ids(dataset)).item):,} events"


def test_requests(folder: Path) -> str:
    dataset = Dataset(folder=folder)
    asked = requests(dataset, item_ids(dataset))
    return f"{len(asked):,} requests, {len(asked.prompts.item):,} events of history"


def item_ids(dataset: Dataset) -> list[str]:
    return [str(item) for item in pq.read_table(dataset.items)["item_id"].to_pylist()]


def measure(
    stage: Callable[[Path], str], folder: Path, results: "multiprocessing.Queue[tuple[str, float, float, float]]"
) -> None:
    start = time.process_time()
    with measured() as cost:
        what = stage(folder)
    results.put((what, cost.seconds, time.process_time() - start, cost.peak_memory_mb))


def main() -> None:
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    print("| stage | what | seconds | CPU seconds | peak memory, MB |\n|---|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for stage in (load_and_page, split, training, test_requests):
            process = spawn.Process(target=measure, args=(stage, Path(folder), results))
            process.start()
            what, seconds, busy, peak = results.get()
            process.join()
            print(f"| {stage.__name__} | {what} | {seconds:.1f} | {busy:.1f} | {peak:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
