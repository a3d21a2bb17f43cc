"""Requests a second, p50 and p99 of the server over loopback; under overload, with admission control and without; and
its memory over many requests.

    python benchmarks/serving.py [RELEASE] [--seconds 6] [--runs 3] [--history 128] [--k 10] [--engine torch] [--json F]
    python benchmarks/serving.py [RELEASE] --soak 100000
    python benchmarks/serving.py --quick

Starts `python -m serving` on RELEASE, or on random weights of the demo's size (27,007 items, 3 × 256 codes, the
default decoder): what a search costs does not depend on the weights. Clients and server share the machine; histories
are random (seed 0), and the prompt cache is off, since they come again.

Clients: each keeps one connection and asks anew as soon as it has its answer. The runs' median, with its spread.
Overload: requests come at random moments (Poisson), twice as many as 32 clients got answered, whatever becomes of
those before; to a server with the target and to one without (`--target_ms 0`), in turn. Latencies are of what was
answered; *in time*: answers a second within the target.
Soak: 16 clients, 4,096 histories of 16 events, a prompt cache of 64 MB, which 2,000 requests fill; resident memory each
tenth of the way.
"""

import argparse
import asyncio
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

CLIENTS = (1, 8, 32, 128)
PATH = "/v1/models/nextpage:predict"
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Run:
    """What came of it: seconds of each answered request, and how many got which other status."""

    latencies: list[float] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0

    def __len__(self) -> int:
        """How many were answered."""
        return len(self.latencies)

    def figures(self, within_s: float) -> dict[str, float]:
        p50, p99 = (1000 * float(np.percentile(self.latencies or [0.0], at)) for at in (50, 99))
        asked = len(self.latencies) + self.refused.total()
        return {
            "rps": len(self.latencies) / self.seconds,
            "in_time_rps": sum(latency <= within_s for latency in self.latencies) / self.seconds,
            "p50_ms": p50,
            "p99_ms": p99,
            "refused": self.refused[429] / asked,
            "late": self.refused[504] / asked,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release", type=Path, nargs="?")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each run")
    parser.add_argument("--history", type=int, default=128, help="events of a history")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
    parser.add_argument("--target_ms", type=float, default=1000.0, help="of the server with admission control")
    parser.add_argument("--engine", help="passed to the server: auto, torch, onnx, onnx-int8")
    parser.add_argument("--soak", type=int, help="so many requests, and nothing else")
    parser.add_argument("--quick", action="store_true", help="one short run each, and a soak of 2,000")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    if args.quick:
        args.runs, args.seconds = 1, min(args.seconds, 1.5)
    engine = [f"--engine={args.engine}"] if args.engine else []
    figures: dict[str, Any] = {"engine": args.engine or "default", "history": args.history, "k": args.k}
    with tempfile.TemporaryDirectory() as scratch:
        release = args.release or write_random_release(Path(scratch))
        item_ids = pq.read_table(release / "items.parquet")["item_id"].to_pylist()
        if not args.soak:
            bodies = make_bodies(item_ids, history=args.history, k=args.k)
            print(f"{len(item_ids):,} items, history {args.history}, k {args.k}, {args.runs} × {args.seconds:g} s")
            with (
                serving(release, f"--target_ms={args.target_ms}", *engine) as (port, process),
                serving(release, "--target_ms=0", *engine) as (unguarded, _),
            ):
                figures["clients"] = clients(port, bodies, args)
                figures["peak_memory_mb"] = memory_mb(process, "VmHWM")
                print(f"server: {figures['peak_memory_mb']:,.0f} MB at its peak")
                figures["overload"] = overload({"with": port, "without": unguarded}, bodies, args)
        if args.soak or args.quick:
            with serving(release, "--prompt_cache_mb=64", *engine) as (port, process):
                bodies = make_bodies(item_ids, history=16, k=args.k, count=4096)
                figures["soak"] = asyncio.run(soak(port, process, bodies, args.soak or 2000))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))


def clients(port: int, bodies: list[bytes], args: argparse.Namespace) -> list[dict[str, Any]]:
    print(f"{'clients':>7} {'requests/s':>16} {'p50 ms':>16} {'p99 ms':>16} {'refused':>8}")
    rows: list[dict[str, Any]] = []
    for count in args.clients:
        asyncio.run(load(port, bodies, count, seconds=1.0))
        runs = [asyncio.run(load(port, bodies, count, args.seconds)) for _ in range(args.runs)]
        row = summary(runs, args.target_ms / 1000)
        cells = (f"{row[name]:.1f} ±{row[name + '_spread']:.1f}" for name in ("rps", "p50_ms", "p99_ms"))
        print(f"{count:>7} " + " ".join(f"{cell:>16}" for cell in cells) + f" {row['refused']:>8.1%}", flush=True)
        rows.append({"clients": count, **row})
    return rows


def overload(ports: dict[str, int], bodies: list[bytes], args: argparse.Namespace) -> list[dict[str, Any]]:
    full = asyncio.run(load(ports["without"], bodies, 32, args.seconds))
    rate = 2 * len(full.latencies) / full.seconds
    print(f"overload: {rate:.0f} requests/s; the target is {args.target_ms:g} ms")
    print(f"{'admission':>9} {'answered/s':>11} {'in time/s':>10} {'p50 ms':>8} {'p99 ms':>8} {'429':>6} {'504':>6}")
    runs: dict[str, list[Run]] = {name: [] for name in ports}
    for number in range(args.runs):
        for name, port in ports.items():
            runs[name].append(asyncio.run(open_loop(port, bodies, rate, max(args.seconds, 4.0), seed=number)))
    rows: list[dict[str, Any]] = []
    for name in ports:
        row = summary(runs[name], args.target_ms / 1000)
        print(
            f"{name:>9} {row['rps']:>11.1f} {row['in_time_rps']:>10.1f} {row['p50_ms']:>8.0f} {row['p99_ms']:>8.0f} "
            f"{row['refused']:>6.1%} {row['late']:>6.1%}"
        )
        rows.append({"admission": name, "rate": rate, **row})
    return rows


async def soak(port: int, process: "subprocess.Popen[bytes]", bodies: list[bytes], count: int) -> dict[str, Any]:
    memory = [memory_mb(process, "VmRSS")]
    began = time.perf_counter()
    for tenth in range(10):
        run = await load(port, bodies, 16, most=count // 10, first=tenth * (count // 10))
        if run.refused:
            raise RuntimeError(f"{run.refused} in a soak of {count:,} requests")
        memory.append(memory_mb(process, "VmRSS"))
        print(f"soak: {(tenth + 1) * (count // 10):>8,} requests, {memory[-1]:,.0f} MB", flush=True)
    growth = memory[-1] - memory[len(memory) // 2]
    print(f"soak: {growth:+.1f} MB over the second half, {time.perf_counter() - began:.0f} s")
    return {"requests": count, "memory_mb": memory, "second_half_growth_mb": growth}


def summary(runs: list[Run], within_s: float) -> dict[str, float]:
    """The median of each figure, and half its range as `…_spread`."""
    found: dict[str, float] = {}
    figures = [run.figures(within_s) for run in runs]
    for name in figures[0]:
        values = [each[name] for each in figures]
        found |= {name: statistics.median(values), f"{name}_spread": (max(values) - min(values)) / 2}
    return found


async def load(
    port: int,
    bodies: list[bytes],
    clients: int,
    seconds: float = float("inf"),
    *,
    most: float = float("inf"),
    first: int = 0,
) -> Run:
    """Clients that ask as soon as they have their answer, or as they are told to come again; for so long, or until so
    many requests have begun."""
    run, began, places = Run(), time.perf_counter(), iter(range(first, sys.maxsize))

    async def client() -> None:
        connection = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() - began < seconds and (place := next(places)) < first + most:
            await asyncio.sleep(await ask(connection, bodies[place % len(bodies)], run))
        connection[1].close()

    await asyncio.gather(*(client() for _ in range(clients)))
    run.seconds = time.perf_counter() - began
    return run


async def open_loop(port: int, bodies: list[bytes], rate: float, seconds: float, seed: int) -> Run:
    """Requests that come at their moments, each on a connection that is free then, or on a new one."""
    draw, run = np.random.default_rng(seed), Run()
    moments = np.cumsum(draw.exponential(1 / rate, int(rate * seconds)))
    free: list[Connection] = []
    began = time.perf_counter()

    async def one(place: int, moment: float) -> None:
        await asyncio.sleep(began + moment - time.perf_counter())
        connection = free.pop() if free else await asyncio.open_connection("127.0.0.1", port)
        await ask(connection, bodies[place % len(bodies)], run)
        free.append(connection)

    await asyncio.gather(*(one(place, float(moment)) for place, moment in enumerate(moments)))
    run.seconds = time.perf_counter() - began  # until the last is answered
    for _, writer in free:
        writer.close()
    return run


async def ask(connection: Connection, body: bytes, run: Run) -> float:
    """The seconds after which to come again."""
    reader, writer = connection
    started = time.perf_counter()
    writer.write(body)
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
    if status == 200:
        run.latencies.append(time.perf_counter() - started)
    elif status in (429, 504):
        run.refused[status] += 1
        return float(head.lower().split(b"retry-after:")[1].split(b"\r\n")[0]) if status == 429 else 0.0
    else:
        raise RuntimeError(f"the server answered {head!r}")
    return 0.0


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
    """A server's port and process; without a prompt cache, unless `more` arguments say so."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [f"--release={release}", "--model_name=nextpage", f"--http_port={port}", "--enable_grpc=false"]
    arguments.append("--prompt_cache_mb=0")
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


def memory_mb(process: "subprocess.Popen[bytes]", which: str) -> float:
    """VmRSS, what is resident now, or VmHWM, the most that was."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split(which + ":")[1].split()[0]) / 1024


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
