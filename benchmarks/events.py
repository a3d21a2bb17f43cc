"""What the event log costs a request: p99 without a log, with Parquet, with Redis, with a Redis that is down.

    python benchmarks/events.py [RELEASE] [--rounds 20] [--seconds 3] [--clients 1] [--history 128] [--k 10]

Starts a `python -m serving` each on RELEASE, or on random weights of the demo's size. They take turns, in an order that
moves on by one each round, so that whatever else the machine does falls on all alike; logs are flushed each second.
"down" is a port where nobody listens. Printed are p50 and p99 over all rounds, the ratio of the p99 to that without a
log with its 95% interval (rounds drawn with replacement, seed 0; the bar is 1.05), and the rows written and dropped.
Needs `redis-server`.
"""

import argparse
import asyncio
import socket
import subprocess
import tempfile
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from serving import load, make_bodies, serving, write_random_release  # benchmarks/serving.py

BAR = 1.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each server in each round")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--history", type=int, default=128, help="events of a history")
    parser.add_argument("--k", type=int, default=10)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        release = args.release or write_random_release(Path(scratch) / "release")
        item_ids = pq.read_table(release / "items.parquet")["item_id"].to_pylist()
        bodies = make_bodies(item_ids, history=args.history, k=args.k)
        places = {
            "none": None,
            "Parquet": f"{scratch}/events",
            "Redis": redis(stack, scratch),
            "down": url(free_port()),
        }
        logging = {name: [f"--events={place}", "--events_flush_s=1"] if place else [] for name, place in places.items()}
        ports = {name: stack.enter_context(serving(release, *more))[0] for name, more in logging.items()}
        for port in ports.values():
            asyncio.run(load(port, bodies, args.clients, 1.0))
        rounds: dict[str, list[list[float]]] = {name: [] for name in ports}
        for number in range(args.rounds):
            for name in np.roll(list(ports), number):
                rounds[name].append(asyncio.run(load(ports[name], bodies, args.clients, args.seconds)))
        print(f"{args.rounds} rounds × {args.seconds:g} s, {args.clients} clients, k {args.k}; bar {BAR}")
        print(f"{'log':>8} {'requests':>9} {'p50 ms':>8} {'p99 ms':>8} {'p99 ratio':>20} {'written':>9} {'dropped':>9}")
        for name, runs in rounds.items():
            print(row(name, runs, rounds["none"], counts(ports[name])), flush=True)


def row(name: str, runs: list[list[float]], without: list[list[float]], rows: tuple[int, int]) -> str:
    """`runs`, `without`: seconds of each answered request by round."""
    draw = np.random.default_rng(0)
    ratios = []
    for _ in range(1_000):
        chosen = draw.integers(0, len(runs), len(runs))
        ratios.append(p(99, [runs[one] for one in chosen]) / p(99, [without[one] for one in chosen]))
    low, high = np.percentile(ratios, [2.5, 97.5])
    ratio = f"{p(99, runs) / p(99, without):.3f} ({low:.3f}–{high:.3f})"
    figures = f"{sum(map(len, runs)):>9,} {p(50, runs):>8.1f} {p(99, runs):>8.1f} {ratio:>20}"
    return f"{name:>8} {figures} {rows[0]:>9,} {rows[1]:>9,}"


def p(percent: float, runs: list[list[float]]) -> float:
    """In milliseconds."""
    return 1000 * float(np.percentile(np.concatenate(runs), percent))


def counts(port: int) -> tuple[int, int]:
    """Rows that a server's log has written and dropped."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = [line for line in answer.read().decode().splitlines() if line.startswith("nextpage_events_total")]
    written, dropped = (
        sum(float(line.split()[-1]) for line in lines if f'fate="{fate}"' in line) for fate in ("written", "dropped")
    )
    return int(written), int(dropped)


def redis(stack: ExitStack, folder: str) -> str:
    """The URL of a Redis of our own, which ends with the stack."""
    port = free_port()
    kept = ["--dir", folder, "--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), *kept]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return url(port)


def url(port: int) -> str:
    return f"redis://127.0.0.1:{port}/0"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


if __name__ == "__main__":
    main()
