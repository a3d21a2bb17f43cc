"""What `nextpage capacity` foretells against what this machine does: seconds, requests a second, memory.

    python benchmarks/capacity.py [--quick] [--threads 2]

Random releases of the demo's decoder and 3 × 256 codes (`benchmarks/serving.py`, seed 0). First the machine: FLOP/s of
a bf16 matrix product, bytes/s of a copy, and by least squares over batches × contexts the share of the roofline that a
search reaches, and the seconds beside it that a batch and a request take. Then the server over loopback, whose clients
share the machine, at 1, 8 and 32 clients, against these figures; and its resident memory with two sizes of catalogue.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from scipy.optimize import nnls

from nextpage.capacity import memory
from nextpage.capacity.plan import Machine, workload_of
from nextpage.models.cost import Chip, least_seconds, search_cost
from nextpage.recipes import Recipe
from nextpage.recommender import Query, Recommender, load_recommender
from nextpage.training.meter import peak_flops
from serving import load, make_bodies, serving, write_random_release  # benchmarks/serving.py

WORKLOAD = workload_of(Recipe(name="demo", sections={}), items=27_007)
BATCHES, CONTEXTS = (1, 4, 8, 16, 32), (16, 128, 384)
CLIENTS = (1, 8, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats: to see that it runs")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    repeats, seconds = (2, 2.0) if args.quick else (9, 10.0)
    with tempfile.TemporaryDirectory() as scratch:
        release = write_random_release(Path(scratch) / "small", WORKLOAD.items)
        machine = measure(load_recommender(release, engine=None), repeats)
        print(
            f"chip: {machine.chip.flops / 1e9:.0f} GFLOP/s bf16, {machine.chip.bandwidth / 1e9:.1f} GB/s; "
            f"share of the roofline {machine.share:.2f}, {1000 * machine.batch_s:.1f} ms a batch, "
            f"{1000 * machine.request_s:.2f} ms a request"
        )
        compare_throughput(release, machine, seconds)
        compare_memory(release, write_random_release(Path(scratch) / "large", 10 * WORKLOAD.items))


def measure(recommender: Recommender, repeats: int) -> Machine:
    """This machine as a `Machine`."""
    chip = Chip(flops=peak_flops(torch.bfloat16, processes=1), bandwidth=bandwidth())
    rows, taken = [], []
    for context in CONTEXTS:
        for batch in BATCHES:
            passes = search_cost(WORKLOAD.config, batch=batch, positions=context + 1, beams=WORKLOAD.beam_width)
            rows.append([least_seconds(passes, chip), 1.0, batch])
            taken.append(seconds_of(recommender, batch, context, repeats))
    weight = 1 / np.array(taken)  # so that what is fitted is the ratio
    (slowness, batch_s, request_s), _ = nnls(np.array(rows) * weight[:, None], np.ones(len(taken)))
    fitted = np.array(rows) @ [slowness, batch_s, request_s]
    print(f"{'batch':>6} {'context':>8} {'measured ms':>12} {'fitted/measured':>16}")
    for (context, batch), real, said in zip(
        ((context, batch) for context in CONTEXTS for batch in BATCHES), taken, fitted, strict=True
    ):
        print(f"{batch:>6} {context:>8} {1000 * real:>12.1f} {said / real:>16.2f}")
    return Machine(chip=chip, memory=None, share=1 / slowness, batch_s=batch_s, request_s=request_s)


def bandwidth(size: int = 1 << 28, repeats: int = 5) -> float:
    """Bytes read and written a second, of a copy."""
    source, target = torch.ones(size, dtype=torch.uint8), torch.empty(size, dtype=torch.uint8)
    best = np.inf
    for _ in range(repeats + 1):
        began = time.perf_counter()
        target.copy_(source)
        best = min(best, time.perf_counter() - began)
    return float(2 * size / best)


def seconds_of(recommender: Recommender, batch: int, context: int, repeats: int) -> float:
    """The median of a batch, after one that is not counted."""
    draw, names = np.random.default_rng(0), recommender.semantic_ids.item_ids
    queries = [
        Query(
            item_ids=[str(names[row]) for row in draw.integers(0, len(names), context)],
            behaviours=[2] * context,
            pages=list(range(context)),
            times=list(range(context)),
            as_of=10**9,
            k=10,
        )
        for _ in range(batch)
    ]
    taken = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        recommender.recommend(queries)
        taken.append(time.perf_counter() - began)
    return float(np.median(taken[1:]))


def compare_throughput(release: Path, machine: Machine, seconds: float) -> None:
    item_ids = pq.read_table(release / "items.parquet")["item_id"].to_pylist()
    bodies = make_bodies(item_ids, history=WORKLOAD.context, k=10)
    print(f"{'clients':>8} {'foretold/s':>12} {'measured/s':>12} {'ratio':>6}")
    with serving(release) as (port, _):
        for clients in CLIENTS:
            asyncio.run(load(port, bodies, clients, seconds=1.0))
            measured = len(asyncio.run(load(port, bodies, clients, seconds))) / seconds
            foretold = clients / machine.seconds(WORKLOAD, clients)
            print(f"{clients:>8} {foretold:>12.1f} {measured:>12.1f} {foretold / measured:>6.2f}")


def compare_memory(small: Path, large: Path) -> None:
    """Resident bytes when the server is ready, with two catalogues: a process, and an item."""
    sizes = {release: len(pq.read_table(release / "items.parquet")) for release in (small, large)}
    resident = {}
    for release in sizes:
        with serving(release) as (_, process):
            status = Path(f"/proc/{process.pid}/status").read_text()
            resident[release] = 1024 * int(status.split("VmRSS:")[1].split()[0])
    slope = (resident[large] - resident[small]) / (sizes[large] - sizes[small])
    beside = slope - memory.item_tokens(1, len(WORKLOAD.sizes))
    for release, items in sizes.items():
        print(f"{items:>8,} items: {resident[release] / 2**20:,.0f} MiB resident")
    print(f"an item: {slope:.0f} bytes, {beside:.0f} beside its tokens")
    print(f"a process: {(resident[small] - slope * sizes[small]) / 2**20:,.0f} MiB")


if __name__ == "__main__":
    main()
