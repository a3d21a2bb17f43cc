"""Print what a search takes on a CPU: engines side by side with Hugging Face, over models, contexts, beams, catalogues.

    python benchmarks/decoding.py [--seconds 1.5] [--budget 280] [--json FILE]      # about 5 minutes on two cores
    python benchmarks/decoding.py --quick                                          # within a minute, for CI
    python benchmarks/decoding.py --models small 0.6b --contexts 1024 --beams 256 --batches 1 8 --items 1000000

Without a choice each axis is walked by itself from one middle cell: a model of 2 layers × 256, a context of 256 items,
50 beams, batch 1, 27,000 items, merged, no filter. With a choice of any axis, the cells are all combinations of what
is chosen. Weights, prompts and catalogues are random (seed 0), catalogues at 3 × 256 codes up to 100,000 items and at
3 × 8192 above. A request is everything from its prompt's tokens to its items; with a filter, one that keeps half of the
items and is shared, and 200 seen items of each request's own. Each engine has the same weights, prompts and beams;
`same` is the share of Hugging Face's items that an engine finds too, and `times` its requests/s over Hugging Face's.
After a call that is not counted, calls are repeated for `--seconds`, three at least; so a p99 of a slow cell is its
slowest call. What is not run is listed with the reason: what would take more than `--most-seconds` a call by its FLOPs
(30 G/s a thread) or more than `--most-gb`, what an engine cannot do, what the budget did not reach; and what failed.
"""

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hugging_face import hugging_face
from torch import Tensor
from trie import random_catalogue

from nextpage.decoding.beam_search import search
from nextpage.decoding.engine import Engine, Prompts
from nextpage.decoding.engines.eager import EagerEngine
from nextpage.decoding.filters import Filters, ItemFilter
from nextpage.decoding.trie import Trie
from nextpage.models.cost import Chip, search_cost
from nextpage.models.decoder import CausalDecoder, DecoderConfig
from nextpage.tokenizers.vocabulary import Vocabulary

HUGGING_FACE = "hugging face"
SEEN = 200
MODELS: dict[str, dict[str, int]] = {
    "tiger": {"layers": 4, "width": 128, "heads": 6, "kv_heads": 6, "head_width": 64, "mlp_width": 1024},
    "small": {"layers": 2, "width": 256, "heads": 4, "kv_heads": 4, "head_width": 64, "mlp_width": 768},
    "0.1b": {"layers": 12, "width": 768, "heads": 12, "kv_heads": 12, "head_width": 64, "mlp_width": 2048},
    "0.6b": {"layers": 28, "width": 1024, "heads": 16, "kv_heads": 8, "head_width": 128, "mlp_width": 3072},
    "1.7b": {"layers": 28, "width": 2048, "heads": 16, "kv_heads": 8, "head_width": 128, "mlp_width": 6144},
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A model and what is asked of it."""

    model: str = "small"
    context: int = 256  # items of a prompt
    beams: int = 50
    batch: int = 1
    items: int = 27_000
    filtered: bool = False
    merged: bool = True

    @property
    def sizes(self) -> tuple[int, ...]:
        return (256 if self.items <= 100_000 else 8192,) * 3

    @property
    def positions(self) -> int:
        return self.context * (1 if self.merged else 3)

    @property
    def config(self) -> DecoderConfig:
        vocabulary = Vocabulary(self.sizes)
        return DecoderConfig(
            vocabulary_size=vocabulary.size,
            level_ranges=tuple(vocabulary.level_range(level) for level in range(3)),
            token_merger=self.merged,
            **MODELS[self.model],
        )


WALKS: dict[str, tuple[Any, ...]] = {
    "model": tuple(MODELS),
    "context": (64, 256, 1024, 4096),
    "beams": (10, 50, 256, 1000),
    "batch": (1, 8, 32),
    "items": (10_000, 27_000, 1_000_000, 20_000_000),
    "filtered": (False, True),
    "merged": (True, False),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of a cell with one engine."""

    cell: Cell
    engine: str
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    requests_per_s: float | None = None
    cpu_ms: float | None = None  # of a request, summed over threads: tells less of what else the machine does
    calls: int = 0
    times: float | None = None
    same: float | None = None
    not_run: str = ""


@dataclass(frozen=True, kw_only=True)
class Limits:
    seconds: float
    most_seconds: float
    most_gb: float
    threads: int
    ends: float  # by time.perf_counter

    def refusal(self, cell: Cell, engine: str) -> str:
        """Why a cell is not run with an engine; empty where it is."""
        if time.perf_counter() > self.ends:
            return "the budget is spent"
        if engine == HUGGING_FACE and cell.filtered:
            return "it has no filter a request: its dict of prefixes would be made anew"
        if engine == HUGGING_FACE and cell.items > 100_000:
            return f"a dict of the prefixes of {cell.items:,} items"
        parameters = sum(weight.numel() for weight in _meta(cell.config).parameters())
        rows = cell.batch * cell.beams
        copies = rows if engine == HUGGING_FACE else cell.batch  # of the prompt's keys and values
        config = cell.config
        cached = 2 * config.layers * config.kv_heads * config.head_width * cell.positions * copies
        scores = config.heads * (cell.positions + 3) * (rows if cell.beams > 1 else cell.positions) + 3 * rows * 8192
        gb = 4 * (2 * parameters + 2 * cached + 2 * scores) / 1e9 + 24 * cell.items / 1e9
        if gb > self.most_gb:
            return f"some {gb:.0f} GB (--most-gb {self.most_gb:g})"
        chip = Chip(flops=30e9 * self.threads, bandwidth=8e9)
        costs = search_cost(config, batch=cell.batch, positions=cell.positions + 1, beams=cell.beams, element=4)
        seconds = sum(cost.seconds(chip) for cost in costs)
        if engine == HUGGING_FACE:  # it runs each prompt once a beam, and its constraint in Python
            seconds = seconds + 3e-3 * rows * len(cell.sizes) + 4 * cached / chip.bandwidth
        if seconds > self.most_seconds:
            return f"some {seconds:.0f} s a call (--most-seconds {self.most_seconds:g})"
        return ""


def _meta(config: DecoderConfig) -> CausalDecoder:
    with torch.device("meta"):
        return CausalDecoder(config)


def decoder_of(config: DecoderConfig) -> CausalDecoder:
    torch.manual_seed(0)
    return CausalDecoder(config).eval()


@cache
def catalogue(items: int, sizes: tuple[int, ...]) -> Trie:
    return Trie.build(random_catalogue(items, sizes))


@cache
def half_of(items: int) -> ItemFilter:
    return ItemFilter.of(np.random.default_rng(0).random(items) < 0.5)


def prompts_of(cell: Cell) -> Prompts:
    draw = np.random.default_rng(0)
    tokens = Vocabulary(cell.sizes).tokens(draw.integers(0, cell.sizes, (cell.batch, cell.context, 3)))
    tokens = torch.from_numpy(tokens if cell.merged else tokens.reshape(cell.batch, -1))
    return Prompts(tokens=tokens, lengths=torch.full((cell.batch,), cell.positions))


def onnx(precision: str, threads: int, decoder: CausalDecoder) -> Engine[Any]:
    from nextpage.decoding.engines.onnx_engine import OnnxEngine, build

    with tempfile.TemporaryDirectory() as folder:
        build(decoder, Path(folder), precision)
        return OnnxEngine(Path(folder), threads=threads)


def engines(threads: int) -> dict[str, Callable[[CausalDecoder], Engine[Any]]]:
    return {
        "eager fp32": EagerEngine,
        "eager bf16": partial(EagerEngine, dtype=torch.bfloat16),
        "onnx fp32": partial(onnx, "fp32", threads),
        "onnx int8": partial(onnx, "int8", threads),
    }


def ours(engine: Engine[Any], cell: Cell) -> Callable[[Prompts], Tensor]:
    """Our search, as prompts → rows [B, beams]."""
    trie = catalogue(cell.items, cell.sizes)
    seen = np.random.default_rng(1).integers(0, cell.items, (cell.batch, SEEN))

    def run(prompts: Prompts) -> Tensor:
        own = Filters.of([half_of(cell.items).without(rows) for rows in seen]) if cell.filtered else None
        return search(engine, prompts, trie, beam_width=cell.beams, k=cell.beams, allowed=own).rows

    return run


def timed(run: Callable[[], Any], seconds: float) -> tuple[list[float], float]:
    """Milliseconds of each call, and of CPU time in the middle one."""
    run()
    wall, cpu, ends = [], [], time.perf_counter() + seconds
    while len(wall) < 3 or time.perf_counter() < ends:
        start, cpu_start = time.perf_counter(), time.process_time()
        run()
        wall.append((time.perf_counter() - start) * 1e3)
        cpu.append((time.process_time() - cpu_start) * 1e3)
    return wall, float(np.median(cpu))


@dataclass(kw_only=True)
class Bench:
    """Runs cells, and keeps what the next one may need again."""

    limits: Limits
    names: list[str]
    engines: dict[str, Callable[[CausalDecoder], Engine[Any]]]
    rows: list[Row] = field(default_factory=list)
    _open: dict[Any, Any] = field(default_factory=dict)

    def run(self, cell: Cell) -> Iterator[Row]:
        """A row an engine, those after Hugging Face's held against it."""
        reference: tuple[float, Tensor] | None = None
        for name in self.names:
            row, found = self._row(cell, name)
            if found is not None and reference is not None and row.p50_ms:
                same = np.mean([np.isin(*pair).mean() for pair in zip(reference[1], found, strict=True)])
                row = replace(row, times=reference[0] / row.p50_ms, same=float(same))
            if name == HUGGING_FACE and found is not None and row.p50_ms:
                reference = row.p50_ms, found
            self.rows.append(row)
            yield row

    def _row(self, cell: Cell, name: str) -> tuple[Row, Tensor | None]:
        if why := self.limits.refusal(cell, name):
            return Row(cell=cell, engine=name, not_run=why), None
        try:
            torch.set_num_threads(1 if name.startswith("onnx") else self.limits.threads)  # else the two fight for cores
            asked, run = prompts_of(cell), self._searching(cell, name)
            wall, cpu = timed(lambda: run(asked), self.limits.seconds)
            p50, p95, p99 = np.percentile(wall, (50, 95, 99)).tolist()
            return Row(
                cell=cell,
                engine=name,
                p50_ms=p50,
                p95_ms=p95,
                p99_ms=p99,
                requests_per_s=cell.batch / p50 * 1e3,
                cpu_ms=cpu / cell.batch,
                calls=len(wall),
            ), run(asked)
        except Exception as failure:
            return Row(cell=cell, engine=name, not_run=f"failed: {type(failure).__name__}: {failure}"), None

    def _searching(self, cell: Cell, name: str) -> Callable[[Prompts], Tensor]:
        config = cell.config
        if self._open.get("config") != config:
            self._open = {"config": config, "decoder": decoder_of(config)}
        decoder = self._open["decoder"]
        if name == HUGGING_FACE:
            return hugging_face(decoder, random_catalogue(cell.items, cell.sizes), cell.beams)
        if name not in self._open:
            self._open[name] = self.engines[name](decoder)
        return ours(self._open[name], cell)


def cells(chosen: dict[str, list[Any]], quick: bool) -> list[Cell]:
    """In an order in which an engine that is open serves as many as it can."""
    if chosen:
        found = [Cell(**dict(zip(chosen, values, strict=True))) for values in itertools.product(*chosen.values())]
    elif quick:
        found = [Cell(context=64, beams=10, items=10_000), Cell(context=64, beams=10, items=10_000, filtered=True)]
    else:
        found = list(dict.fromkeys(replace(Cell(), **{axis: value}) for axis, walk in WALKS.items() for value in walk))
    return sorted(found, key=lambda cell: (list(MODELS).index(cell.model) if cell.model != "small" else -1, cell.sizes))


def line(row: Row) -> str:
    cell = row.cell
    asked = f"{cell.model:>6} {cell.context:7} {cell.beams:5} {cell.batch:5} {cell.items:11,} "
    asked += f"{'yes' if cell.filtered else '':>6} {'' if cell.merged else 'no':>6} {row.engine:>12}"
    if row.p50_ms is None:
        return f"{asked}  not run: {row.not_run}"
    asked += f" {row.p50_ms:9.1f} {row.p95_ms:9.1f} {row.p99_ms:9.1f} {row.requests_per_s:10.1f} {row.cpu_ms:10.1f}"
    return asked + ("" if row.times is None else f" {row.times:6.1f} {row.same:6.3f}")


HEADER = (
    f"{'model':>6} {'context':>7} {'beams':>5} {'batch':>5} {'items':>11} {'filter':>6} {'merged':>6} {'engine':>12} "
)
HEADER += f"{'p50 ms':>9} {'p95 ms':>9} {'p99 ms':>9} {'requests/s':>10} {'CPU ms':>10} {'times':>6} {'same':>6}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS))
    for axis in ("contexts", "beams", "batches", "items"):
        parser.add_argument(f"--{axis}", nargs="+", type=int)
    parser.add_argument("--filtered", action="store_true", help="with and without a filter a request")
    parser.add_argument("--unmerged", action="store_true", help="with and without token merger")
    parser.add_argument(
        "--engines", nargs="+", choices=[HUGGING_FACE, *engines(1)], default=[HUGGING_FACE, *engines(1)]
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.5, help="of repeats, a cell and engine")
    parser.add_argument("--most-seconds", type=float, default=5.0, help="a call may be expected to take")
    parser.add_argument("--most-gb", type=float, default=6.0)
    parser.add_argument("--budget", type=float, default=280.0, help="seconds after which no cell begins")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    chosen = {
        "model": arguments.models,
        "context": arguments.contexts,
        "beams": arguments.beams,
        "batch": arguments.batches,
        "items": arguments.items,
        "filtered": [False, True] if arguments.filtered else None,
        "merged": [True, False] if arguments.unmerged else None,
    }
    limits = Limits(
        seconds=0.2 if arguments.quick else arguments.seconds,
        most_seconds=arguments.most_seconds,
        most_gb=arguments.most_gb,
        threads=arguments.threads,
        ends=time.perf_counter() + arguments.budget,
    )
    bench = Bench(limits=limits, names=arguments.engines, engines=engines(arguments.threads))
    print(HEADER, flush=True)
    for cell in cells({axis: values for axis, values in chosen.items() if values}, arguments.quick):
        for row in bench.run(cell):
            print(line(row), flush=True)
    failed = [row for row in bench.rows if row.not_run.startswith("failed")]
    print(f"\n{len(bench.rows)} cells, {sum(bool(row.not_run) for row in bench.rows)} not run, {len(failed)} failed")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in bench.rows], indent=1))
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
