"""Print what a search takes on a GPU beside the bar it is to clear and the least that the chip could need.

    python benchmarks/decoding_gpu.py [--repeats 200] [--json FILE] [--tflops 989 --bandwidth 4.8]
    python benchmarks/decoding_gpu.py --quick --device cpu     # tiny cells: does the command work?

A request is everything from tokens on the host to rows on the host: one CUDA graph of prefill, steps, trie, filter and
selection (`GraphSearch` over `CudaEngine`), random weights (seed 0), a random catalogue. `share` is of the roofline
(`nextpage/models/cost.py`), for the constraint by bytes alone. The constraint's time is that of `fused_children` on
1,024 beams with a filter and 64 items seen, less that of the softmax's normaliser, which a search without a catalogue
needs too; 20 million items at 3 × 8192 codes, the mean of the three levels, many calls in one graph. Ends with 1 where
a cell failed or missed its bar, with 2 where there is no CUDA. No GPU has run it yet.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np
import torch

from nextpage.decoding.beam_search import Found, best
from nextpage.decoding.engine import Prompts
from nextpage.decoding.engines.cuda_engine import CudaEngine
from nextpage.decoding.engines.cuda_graph import GraphConfig, GraphSearch
from nextpage.decoding.engines.static_buffers import HeldFilters, HeldTrie, with_room
from nextpage.decoding.filters import Filters, ItemFilter, prefix_rank
from nextpage.decoding.static_search import children, most_candidates
from nextpage.decoding.trie import Trie
from nextpage.models.cost import BF16_CHIPS, Chip, Cost, least_seconds, roofline_share, search_cost
from nextpage.models.decoder import CausalDecoder, DecoderConfig
from nextpage.tokenizers.semantic_ids import SemanticIds
from nextpage.tokenizers.vocabulary import SPECIALS, Vocabulary

CALLS = 20
"""Of what is timed in one graph."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model and a request."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    mlp_width: int
    sizes: tuple[int, ...]
    items: int
    positions: int  # of a prompt, SEP included
    beams: int


QWEN3_1B7 = Shape(
    layers=28,
    width=2048,
    heads=16,
    kv_heads=8,
    head_width=128,
    mlp_width=6144,
    sizes=(8192,) * 3,
    items=1_000_000,
    positions=1000,
    beams=256,
)
TIGER = Shape(
    layers=4,
    width=128,
    heads=6,
    kv_heads=6,
    head_width=64,
    mlp_width=1024,
    sizes=(256,) * 4,
    items=20_000,
    positions=81,  # 20 items of 4 codes
    beams=50,
)
TINY = Shape(
    layers=2,
    width=32,
    heads=4,
    kv_heads=2,
    head_width=16,
    mlp_width=48,
    sizes=(16,) * 3,
    items=500,
    positions=17,
    beams=8,
)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Of one cell; times in its unit."""

    cell: str
    unit: str
    bar: float | None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    share: float | None = None  # of the roofline
    notes: dict[str, float] = field(default_factory=dict)
    failed: str = ""

    @property
    def missed(self) -> bool:
        return bool(self.failed) or (self.bar is not None and self.p50 is not None and self.p50 > self.bar)


def catalogue(items: int, sizes: tuple[int, ...]) -> Trie:
    """Random semantic IDs, drawn in their order; some are shared."""
    numbers = np.sort(np.random.default_rng(0).integers(0, np.prod(sizes), size=items))
    codes = np.stack(np.unravel_index(numbers, sizes), axis=1).astype(np.int32)
    return Trie.build(
        SemanticIds(item_ids=np.broadcast_to(np.asarray("", dtype=object), items), codes=codes, sizes=sizes)
    )


def decoder(shape: Shape, device: str) -> CausalDecoder:
    """In bf16 from the start: a large one twice would not do."""
    vocabulary = Vocabulary(shape.sizes)
    names = ("layers", "width", "heads", "kv_heads", "head_width", "mlp_width")
    config = DecoderConfig(
        vocabulary_size=vocabulary.size,
        level_ranges=tuple(vocabulary.level_range(level) for level in range(len(shape.sizes))),
        token_merger=False,
        **{name: getattr(shape, name) for name in names},
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            return CausalDecoder(config).eval()
    finally:
        torch.set_default_dtype(torch.float32)


def request(
    shape: Shape, device: str, chip: Chip | None, repeats: int, *, fp8: bool, filtered: bool
) -> dict[str, object]:
    """p50, p95 and p99 in ms, and the roofline's share, of batch 1."""
    model, trie = decoder(shape, device), catalogue(shape.items, shape.sizes)
    length = shape.positions - 1
    graphs = GraphSearch(
        CudaEngine(model, fp8=fp8),
        device,
        GraphConfig(batches=(1,), lengths=(length,), filters=1),
        capture=unrecorded if device == "cpu" else None,
    )
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(SPECIALS, SPECIALS + sum(shape.sizes), (1, length), generator=generator)
    prompts = Prompts(tokens=tokens, lengths=torch.tensor([length]))
    some = ItemFilter.of(torch.rand(trie.items, generator=generator) < 0.5)
    allowed = Filters.of([some], device) if filtered else None
    times = []
    for _ in range(repeats // 10 + 1 + repeats):
        start = time.perf_counter()
        found = graphs.search(prompts, trie, beam_width=shape.beams, k=shape.beams, allowed=allowed)
        times.append((time.perf_counter() - start) * 1e3)
    if not (found.rows >= 0).any() or not torch.isfinite(found.log_prob[found.rows >= 0]).all():
        raise ValueError("no item was found: the search is wrong, and so would its time be")
    times = times[-repeats:]
    passes = search_cost(model.config, batch=1, positions=shape.positions, beams=shape.beams)
    known = chip is not None and not fp8
    share = roofline_share(passes, chip, statistics.median(times) / 1e3) if known else None
    notes = {"least": least_seconds(passes, chip) * 1e3} if known else {}
    return {"share": share, "notes": notes, **quantiles(times)}


def unrecorded(program: Callable[[], Found]) -> Callable[[], Found]:
    return program


def quantiles(times: list[float]) -> dict[str, float]:
    return {name: float(np.quantile(times, share)) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}


def constraint(
    items: int, sizes: tuple[int, ...], beams: int, device: str, chip: Chip | None, repeats: int
) -> dict[str, object]:
    """Microseconds a step of trie and filter, and by level those of torch's operators and of the selection."""
    trie = catalogue(items, sizes)
    most = most_candidates(trie, beams)
    held, filters = HeldTrie(trie, device), HeldFilters(1, with_room(items), device)
    generator = torch.Generator().manual_seed(0)
    rank = prefix_rank(torch.rand(items, generator=generator) < 0.5)
    slots = torch.tensor(filters.slots([rank]), device=device)
    seen = torch.arange(0, min(items, 64 * 97), 97, dtype=torch.int32, device=device)[None]
    steps, moved, notes = [], 0.0, {}
    for level, size in enumerate(sizes):
        nodes = trie.first_edges[level].shape[0] - 1
        width = min(beams, nodes)
        node_BW = torch.randperm(nodes, generator=generator)[:width].sort().values.int()[None].to(device)
        score_BW = torch.zeros(1, width, device=device)
        logits_BWS = torch.randn(1, width, size, generator=generator).to(device)
        given = (level, node_BW, score_BW, logits_BWS, most[level])
        by_torch = partial(children, held.trie, partial(filters.before, slots, seen), *given)
        expand = by_torch if device == "cpu" else partial(kernel(), held, filters, slots, seen, *given)
        _, edge_BM, score_BM = expand()
        both, normaliser, selection = (
            microseconds(run, device, repeats)
            for run in (expand, partial(torch.logsumexp, logits_BWS, -1), partial(best, score_BM, edge_BM, beams))
        )
        steps.append([whole - part for whole, part in zip(both, normaliser, strict=True)])
        notes[f"by_torch_{level}"] = statistics.median(microseconds(by_torch, device, repeats))
        notes[f"selection_{level}"] = statistics.median(selection)
        notes[f"candidates_{level}"] = float(most[level])
        notes[f"fan_out_times_beams_{level}"] = float(width * int(trie.first_edges[level].diff().max()))
        # Of a candidate its code, row, place in the prefix sum and logit are read; beam, edge and score are written.
        moved += most[level] * (trie.edge_codes[level].element_size() + 3 * 4 + 8 + 4 + 4)
    times = [statistics.mean(levels) for levels in zip(*steps, strict=True)]
    least = Cost(flops=0.0, bytes=moved / len(sizes))
    share = None if chip is None else roofline_share((least,), chip, statistics.median(times) / 1e6)
    return {"share": share, "notes": notes, **quantiles(times)}


def kernel() -> Callable[..., object]:
    """Imported where there is a GPU for it."""
    from nextpage.decoding.engines.children_kernel import fused_children

    return fused_children


def microseconds(run: Callable[[], object], device: str, repeats: int) -> list[float]:
    """Of one call, from graphs of CALLS calls on a GPU."""
    if device == "cpu":
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) * 1e6)
        return times
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CALLS):
            run()
    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e3 / CALLS)
    return times


def cells(
    quick: bool, device: str, chip: Chip | None, repeats: int
) -> list[tuple[str, str, float | None, Callable[[], dict[str, object]]]]:
    """Name, unit, bar and measurement."""
    of = partial(request, device=device, chip=chip, repeats=repeats)
    if quick:
        return [
            ("tiny, bf16", "ms", None, partial(of, TINY, fp8=False, filtered=False)),
            ("tiny, bf16, filter", "ms", None, partial(of, TINY, fp8=False, filtered=True)),
            ("tiny, fp8", "ms", None, partial(of, TINY, fp8=True, filtered=False)),
            ("constraint, 5,000 items", "µs", None, partial(constraint, 5000, (32,) * 3, 64, device, chip, repeats)),
        ]
    return [
        ("1.7B, context 1,000, beam 256, bf16", "ms", 9.0, partial(of, QWEN3_1B7, fp8=False, filtered=False)),
        ("1.7B, context 1,000, beam 256, bf16, filter", "ms", 9.0, partial(of, QWEN3_1B7, fp8=False, filtered=True)),
        ("1.7B, context 1,000, beam 256, fp8", "ms", None, partial(of, QWEN3_1B7, fp8=True, filtered=False)),
        ("TIGER, 20 items, beam 50, bf16", "ms", 1.5, partial(of, TIGER, fp8=False, filtered=False)),
        (
            "constraint and filter, 1,024 rows, 20M items",
            "µs",
            15.0,
            partial(constraint, 20_000_000, (8192,) * 3, 1024, device, chip, repeats),
        ),
    ]


def the_chip(arguments: argparse.Namespace) -> Chip | None:
    """What the roofline is drawn for; None where nothing is known of it."""
    if arguments.tflops and arguments.bandwidth:
        return Chip(flops=arguments.tflops * 1e12, bandwidth=arguments.bandwidth * 1e12)
    if arguments.device == "cpu":
        return None
    words = torch.cuda.get_device_name().split()
    return next((chip for name, chip in BF16_CHIPS.items() if name in words), None)


def line(measured: Measured) -> str:
    if measured.failed:
        return f"{measured.cell:46} failed: {measured.failed}"
    p50, p95, p99 = (f"{value:.3f}" for value in (measured.p50, measured.p95, measured.p99))
    bar = "" if measured.bar is None else f"{measured.bar:g}"
    share = "" if measured.share is None else f"{measured.share:.1%}"
    verdict = "" if measured.bar is None else "missed" if measured.missed else "met"
    notes = "".join(f"\n    {name}: {value:,.3f}" for name, value in measured.notes.items())
    return f"{measured.cell:46} {measured.unit:4} {p50:>10} {p95:>10} {p99:>10} {bar:>6} {verdict:7} {share:>7}{notes}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny cells, without bars")
    parser.add_argument("--repeats", type=int, default=0, help="default 200, with --quick 5")
    parser.add_argument("--json", help="file to write")
    parser.add_argument("--tflops", type=float, help="dense bf16 peak of a chip that is not in BF16_CHIPS")
    parser.add_argument("--bandwidth", type=float, help="its memory bandwidth, TB/s")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("torch sees no CUDA here, so nothing was measured; --quick --device cpu tries the command itself")
        return 2
    chip, results = the_chip(arguments), []
    print(f"{'cell':46} {'unit':4} {'p50':>10} {'p95':>10} {'p99':>10} {'bar':>6} {'':7} {'share':>7}")
    for name, unit, bar, measure in cells(
        arguments.quick, arguments.device, chip, arguments.repeats or (5 if arguments.quick else 200)
    ):
        try:
            measured = Measured(cell=name, unit=unit, bar=bar, **measure())  # type: ignore[arg-type]
        except Exception as error:  # a cell that fails is a result
            measured = Measured(cell=name, unit=unit, bar=bar, failed=f"{type(error).__name__}: {error}")
        print(line(measured), flush=True)
        results.append(measured)
    if arguments.json:
        device = "cpu" if arguments.device == "cpu" else torch.cuda.get_device_name()
        with open(arguments.json, "w") as file:
            json.dump(
                {"device": device, "torch": torch.__version__, "cells": [asdict(one) for one in results]},
                file,
                indent=1,
            )
    return int(any(one.missed for one in results))


if __name__ == "__main__":
    sys.exit(main())
