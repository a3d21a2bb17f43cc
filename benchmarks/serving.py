"""Requests a second, p50 and p99 of the server over loopback, at 1, 8 and 32 clients.

    python benchmarks/serving.py [RELEASE] [--seconds 10] [--history 128] [--k 10] [--runs 3]

Starts `python -m serving` on RELEASE, or on random weights of the demo's size (27,007 items, 3 × 256 codes, the
default decoder): what a search costs does not depend on the weights. Each client keeps one connection and asks anew as
soon as it has its answer, with random histories (seed 0). Clients and server share the machine. The runs' median is
printed with its spread.
"""

import argparse
import asyncio
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

CLIENTS = (1, 8, 32)
PATH = "/v1/models/nextpage:predict"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release", type=Path, nargs="?")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each run")
    parser.add_argument("--history", type=int, default=128, help="events of a history")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        release = args.release or write_random_release(Path(scratch))
        item_ids = pq.read_table(release / "items.parquet")["item_id"].to_pylist()
        bodies = make_bodies(item_ids, history=args.history, k=args.k)
        with serving(release) as (port, process):
            print(f"{len(item_ids):,} items, history {args.history}, k {args.k}, {args.runs} × {args.seconds:g} s")
            print(f"{'clients':>7} {'requests/s':>16} {'p50 ms':>16} {'p99 ms':>16}")
            for clients in CLIENTS:
                asyncio.run(load(port, bodies, clients, seconds=1.0))
                runs = [asyncio.run(load(port, bodies, clients, args.seconds)) for _ in range(args.runs)]
                print(row(clients, runs, args.seconds), flush=True)
            print(f"server: {peak_memory_mb(process):,.0f} MB at its peak")


def row(clients: int, runs: list[list[float]], seconds: float) -> str:
    """`runs`: the seconds of each answered request, by run."""
    figures = [
        [len(run) / seconds for run in runs],
        [1000 * float(np.percentile(run, 50)) for run in runs],
        [1000 * float(np.percentile(run, 99)) for run in runs],
    ]
    cells = (f"{statistics.median(figure):.1f} ±{(max(figure) - min(figure)) / 2:.1f}" for figure in figures)
    return f"{clients:>7} " + " ".join(f"{cell:>16}" for cell in cells)


async def load(port: int, bodies: list[bytes], clients: int, seconds: float) -> list[float]:
    """The latencies of all requests that `clients` connections got answered; raises on any status but 200."""
    latencies: list[float] = []
    ends = time.perf_counter() + seconds

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        place = number
        while (started := time.perf_counter()) < ends:
            writer.write(bodies[place % len(bodies)])
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n", 1)[0]:
                raise RuntimeError(f"the server answered {head!r}")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            latencies.append(time.perf_counter() - started)
            place += clients
        writer.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return latencies


def make_bodies(item_ids: list[str], *, history: int, k: int, count: int = 512) -> list[bytes]:
    """Whole HTTP requests, made beforehand so that clients cost little."""
    draw = np.random.default_rng(0)
    requests = []
    for _ in range(count):
        items = [item_ids[place] for place in draw.integers(0, len(item_ids), history)]
        pages = np.sort(draw.integers(0, max(1, history // 8), history))
        instance = {"k": k, "history": {"items": items, "times": (1_700_000_000 + 86_400 * pages).tolist()}}
        body = orjson.dumps({"instances": [instance]})
        head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        requests.append(f"{head}\r\n\r\n".encode() + body)
    return requests


@contextmanager
def serving(release: Path, *more: str) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [f"--release={release}", "--model_name=nextpage", f"--http_port={port}", "--enable_grpc=false"]
    process = subprocess.Popen([sys.executable, "-m", "serving", *arguments, *more], stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5).close()
                break
            except urllib.error.URLError:
                if process.poll() is not None:
                    raise SystemExit("the server did not start") from None
                time.sleep(0.2)
        yield port, process
    finally:
        process.terminate()
        process.wait()


def peak_memory_mb(process: "subprocess.Popen[bytes]") -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def write_random_release(folder: Path, items: int = 27_007) -> Path:
    """A sealed release of the default decoder with the weights it starts from."""
    from nextpage.models.decoder import CausalDecoder, DecoderConfig
    from nextpage.recipes import Recipe
    from nextpage.recommender import write_parts
    from nextpage.release import FeatureService, seal
    from nextpage.tokenizers.semantic_ids import SemanticIds
    from nextpage.tokenizers.vocabulary import Vocabulary

    draw, sizes = np.random.default_rng(0), (256, 256, 256)
    names = np.array([f"i{number:05d}" for number in range(items)], dtype=object)
    semantic_ids = SemanticIds.sorted(names, draw.integers(0, 256, (items, 3)), sizes)
    vocabulary = Vocabulary(sizes)
    config = DecoderConfig(
        vocabulary_size=vocabulary.size,
        level_ranges=tuple(vocabulary.level_range(level) for level in range(3)),
    )
    table = pa.table({"item_id": list(semantic_ids.item_ids), "orders": draw.integers(0, 1000, items)})
    recipe = Recipe(name="random", sections={})
    write_parts(folder, decoder=CausalDecoder(config), semantic_ids=semantic_ids, items=table, recipe=recipe)
    seal(folder, name="random", recipe="random", feature_service=FeatureService(name="none", hash="none"))
    return folder


if __name__ == "__main__":
    main()
