"""The whole search in one CUDA graph for each bucket of shapes: the host copies a request in, starts it and copies out.

A graph is recorded once, on the addresses of its buffers, and replayed without Python. So a request is padded to the
next bucket of prompts and of length, and what it may differ in (tokens, lengths, filters, the catalogue) is copied into
buffers that stand still. A catalogue that has outgrown its buffers, or whose beams have more children than a graph made
room for, is recorded anew.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from nextpage.decoding.beam_search import Found, check
from nextpage.decoding.engine import Engine, Prompts
from nextpage.decoding.engines.hardware import triton_runs
from nextpage.decoding.engines.static_buffers import HeldFilters, HeldTrie, with_room
from nextpage.decoding.filters import PADDING, Filters
from nextpage.decoding.static_search import Expand, most_candidates, static_search
from nextpage.decoding.trie import Trie

State = TypeVar("State")
Program = Callable[[], Found]
Capture = Callable[[Program], Program]
"""Records a program whose inputs and outputs stand still, and returns what runs it again."""
WARM_UP = 3


@dataclass(frozen=True, kw_only=True)
class GraphConfig:
    """Ascending sizes that prompts are padded to; the `graphs` used last stay recorded; `filters` prefix sums stay on
    the device, 4 bytes an item each."""

    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    lengths: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048, 4096)
    graphs: int = 16
    filters: int = 32

    def __post_init__(self) -> None:
        if self.filters < self.batches[-1]:
            raise ValueError(f"{self.filters} filters cannot serve {self.batches[-1]} prompts that each have their own")


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """The shapes of a graph."""

    batch: int
    length: int
    levels: int | None  # of an item's tokens; None: plain tokens
    beam_width: int
    k: int
    excluded: int | None  # rows that each prompt may exclude; None: no filters


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A graph and what it reads."""

    prompts: Prompts
    slots: Tensor  # int64 [B]
    excluded: Tensor  # int32 [B, R]
    candidates: tuple[int, ...]
    replay: Program


class GraphSearch(Generic[State]):
    """`search` by recorded graphs. Requests share the buffers, so threads wait for one another."""

    def __init__(
        self,
        engine: Engine[State],
        device: torch.device | str,
        config: GraphConfig = GraphConfig(),
        *,
        capture: Capture | None = None,
    ) -> None:
        """The engine's shapes must follow from its arguments' alone, as `EagerEngine`'s and `CudaEngine`'s do."""
        self._engine, self._device, self._config = engine, torch.device(device), config
        self._capture = capture or partial(record, pool=torch.cuda.graph_pool_handle())
        self._recorded: OrderedDict[Bucket, Recorded] = OrderedDict()
        self._lock = Lock()
        self._source: Trie | None = None
        self._trie: HeldTrie
        self._filters: HeldFilters
        self._most: dict[int, tuple[int, ...]] = {}  # candidates of the catalogue by beam width

    def search(
        self,
        prompts: Prompts,
        trie: Trie,
        *,
        beam_width: int,
        k: int,
        allowed: Tensor | Filters | None = None,
    ) -> Found:
        """As `beam_search.search`; what is found lies where the prompts do. Raises ValueError for more or longer
        prompts than there are buckets for."""
        batch = len(prompts.lengths)
        check(self._engine, trie, batch, beam_width, k, allowed)
        with self._lock:
            self._hold(trie)
            filters = self._on_device(allowed, batch)
            bucket = Bucket(
                batch=_next(self._config.batches, batch, "prompts"),
                length=_next(self._config.lengths, prompts.tokens.shape[1], "positions"),
                levels=prompts.tokens.shape[2] if prompts.tokens.ndim == 3 else None,
                beam_width=beam_width,
                k=k,
                excluded=None if filters is None else _power_of_two(filters.excluded.shape[1]),
            )
            recorded = self._record(bucket)
            _fill(recorded.prompts.tokens, prompts.tokens, 0)
            _fill(recorded.prompts.lengths, prompts.lengths, 0)
            if filters is not None:
                _fill(recorded.slots, torch.tensor(self._filters.slots(filters.ranks)), 0)
                _fill(recorded.excluded, filters.excluded, PADDING)
            found = recorded.replay()
            home = prompts.lengths.device
            return Found(
                rows=found.rows[:batch].to(home, copy=True), log_prob=found.log_prob[:batch].to(home, copy=True)
            )

    def _hold(self, trie: Trie) -> None:
        if trie is self._source:
            return
        if self._source is not None and self._trie.take(trie):
            self._filters.forget()
        else:
            self._recorded.clear()
            self._trie = HeldTrie(trie, self._device)
            self._filters = HeldFilters(self._config.filters, self._trie.trie.items, self._device)
        self._source, self._most = trie, {}

    def _on_device(self, allowed: Tensor | Filters | None, batch: int) -> Filters | None:
        if isinstance(allowed, Tensor):
            return Filters.dense((allowed if allowed.ndim == 2 else allowed[None]).to(self._device), batch)
        return allowed

    def _record(self, bucket: Bucket) -> Recorded:
        """The graph of a bucket, recorded where there is none with room for the catalogue."""
        if bucket.beam_width not in self._most:
            self._most[bucket.beam_width] = most_candidates(self._trie.trie, bucket.beam_width)
        most = self._most[bucket.beam_width]
        recorded = self._recorded.pop(bucket, None)
        if recorded is None or any(room < needed for room, needed in zip(recorded.candidates, most, strict=True)):
            recorded = self._new(bucket, tuple(map(with_room, most)))
        self._recorded[bucket] = recorded
        if len(self._recorded) > self._config.graphs:
            self._recorded.popitem(last=False)
        return recorded

    def _new(self, bucket: Bucket, candidates: tuple[int, ...]) -> Recorded:
        def zeros(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=self._device)

        item = () if bucket.levels is None else (bucket.levels,)
        prompts = Prompts(tokens=zeros(bucket.batch, bucket.length, *item), lengths=zeros(bucket.batch))
        slots, excluded = zeros(bucket.batch), zeros(bucket.batch, bucket.excluded or 0, dtype=torch.int32)
        program = partial(
            static_search,
            self._engine,
            prompts,
            self._trie.trie,
            candidates=candidates,
            beam_width=bucket.beam_width,
            k=bucket.k,
            before=None if bucket.excluded is None else partial(self._filters.before, slots, excluded),
            expand=self._fused(bucket, slots, excluded),
        )
        return Recorded(
            prompts=prompts,
            slots=slots,
            excluded=excluded,
            candidates=candidates,
            replay=self._capture(program),
        )

    def _fused(self, bucket: Bucket, slots: Tensor, excluded: Tensor) -> Expand | None:
        """The Triton kernel on a GPU; None: torch's operators."""
        if self._device.type != "cuda" or not triton_runs():
            return None
        from nextpage.decoding.engines.children_kernel import fused_children

        filters = None if bucket.excluded is None else self._filters
        return partial(fused_children, self._trie, filters, slots, excluded)


def record(program: Program, *, pool: Any) -> Program:
    """A CUDA graph of a program, after runs on a side stream that let libraries allocate and choose what they must.

    Graphs of one pool share memory, so that each overwrites what another gave: its result is to be copied away.
    """
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            program()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):  # other threads may copy meanwhile
        found = program()

    def replay() -> Found:
        graph.replay()
        return found

    return replay


def _next(sizes: tuple[int, ...], asked: int, what: str) -> int:
    for size in sizes:
        if asked <= size:
            return size
    raise ValueError(f"{asked} {what} are more than the largest bucket's {sizes[-1]}: add a bucket to GraphConfig")


def _power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length() if size else 0


def _fill(buffer: Tensor, given: Tensor, padding: int) -> None:
    """Copy into the first rows and columns of a buffer, and pad the rest."""
    buffer.fill_(padding)
    buffer[tuple(slice(size) for size in given.shape)].copy_(given, non_blocking=True)
