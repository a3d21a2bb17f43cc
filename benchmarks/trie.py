"""Print what the trie costs, and what filters cost in it: 10 thousand to 20 million items at 3 × 8192 codes, on a CPU.

    python benchmarks/trie.py [--items 10000 1000000 20000000] [--beams 64] [--prompts 16] [--repeats 5] [--json FILE]
    python benchmarks/trie.py --quick       # up to a million items, in a few seconds

Random catalogues (seed 0), sorted. A step is the part of one level of a search that is not the model's: from logits
[prompts, beams, 8192] to the best beams, level by level, 1,024 rows by default. `filter`: one that keeps 1% of the
items, counted once and shared by all prompts; `own`: besides, 200 rows that each prompt has seen, another 200 each.
`dense`: what it takes to count the same for each prompt anew, before any step. Milliseconds are the median of the
repeats, after one that is not counted; peak memory is the process's, table and trie and all.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nextpage.decoding.beam_search import extend
from nextpage.decoding.filters import Filters, ItemFilter, prefix_rank
from nextpage.decoding.trie import Trie
from nextpage.tokenizers.semantic_ids import SemanticIds

SIZES = (8192, 8192, 8192)
SEEN = 200
COLUMNS = ("items", "build_s", "bytes_an_item", "level", "free_ms", "filter_ms", "own_ms", "dense_ms", "peak_mb")


def random_catalogue(items: int, sizes: tuple[int, ...] = SIZES, seed: int = 0) -> SemanticIds:
    """Distinct semantic IDs in order; items have no names, which would take more memory than all else."""
    draw = np.random.default_rng(seed)
    number = np.sort(draw.integers(0, int(np.prod(sizes, dtype=np.int64)), items + items // 10 + 100))
    number = number[np.diff(number, prepend=-1) > 0]
    number = number[np.linspace(0, len(number) - 1, items).astype(np.int64)]
    codes = np.empty((items, len(sizes)), dtype=np.int32)
    for level in reversed(range(len(sizes))):
        number, codes[:, level] = np.divmod(number, sizes[level])
    return SemanticIds(item_ids=np.broadcast_to(np.array("", dtype=object), items), codes=codes, sizes=sizes)


def milliseconds(run: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return float(np.median(times[1:]))


def measure(items: int, prompts: int, beams: int, repeats: int) -> list[dict[str, float]]:
    """A row a level of the search."""
    table = random_catalogue(items)
    start = time.perf_counter()
    trie = Trie.build(table)
    build_s = time.perf_counter() - start
    del table
    draw = torch.Generator().manual_seed(0)
    allowed = torch.rand(items, generator=draw) < 0.01
    shared = ItemFilter.of(allowed)
    seen = torch.randint(items, (prompts, SEEN), generator=draw)
    own = Filters.of([shared.without(rows.numpy()) for rows in seen])

    def dense() -> None:
        for rows in seen:
            unseen = allowed.clone()
            unseen[rows] = False
            prefix_rank(unseen)

    filters = {"free_ms": None, "filter_ms": Filters.of([shared] * prompts), "own_ms": own}
    costs = {"build_s": build_s, "bytes_an_item": trie.nbytes / items, "dense_ms": milliseconds(dense, repeats)}
    rows = []
    for level in range(trie.levels):
        width, nodes = 1 if level == 0 else beams, len(trie.first_edges[level]) - 1
        node_BW = torch.randint(nodes, (prompts, width), dtype=torch.int32, generator=draw)
        score_BW = torch.randn(prompts, width, generator=draw)
        logits_BWS = torch.randn(prompts, width, SIZES[level], generator=draw)
        step = {
            name: milliseconds(
                lambda own=own: extend(trie, level, node_BW, score_BW, logits_BWS, own, beams),  # noqa: B023
                repeats,
            )
            for name, own in filters.items()
        }
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append({"items": items, "level": level} | costs | step | {"peak_mb": peak_mb})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 20_000_000])
    parser.add_argument("--beams", type=int, default=64)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="up to a million items")
    parser.add_argument("--json", type=Path, help="where the rows go too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{arguments.prompts} prompts × {arguments.beams} beams, {arguments.threads} threads\n")
    print(" ".join(f"{column:>13}" for column in COLUMNS))
    rows = []
    for items in [10_000, 1_000_000] if arguments.quick else arguments.items:
        for row in measure(items, arguments.prompts, arguments.beams, 2 if arguments.quick else arguments.repeats):
            rows.append(row)
            cells = (
                f"{row[column]:13,.0f}" if column in ("items", "level") else f"{row[column]:13,.2f}"
                for column in COLUMNS
            )
            print(" ".join(cells), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"settings": vars(arguments) | {"json": None}, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
