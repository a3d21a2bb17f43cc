"""Keys and values of prompts kept between requests: of a prompt that was seen before, only what is new is run.

No token sees a later one and positions count from the prompt's start, so what an engine made of the first P positions
of one prompt holds for every prompt with the same first P tokens. A kept prompt is found by a hash of its tokens and
used only where the tokens themselves are equal: an entry can never answer for another history, whoever's it is, and a
changed, late or dropped event simply leaves a shorter common beginning. Weights must not change under a cache.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
from torch import Tensor

from nextpage.decoding.engine import Engine, Frontier, Prompts

State = TypeVar("State")
MARK = 8
"""A kept prompt can be found by its first MARK positions, its first 2 · MARK, …, and by all of them."""
_BASE = np.uint64(0x9E3779B97F4A7C15)


class Past(Protocol):
    """What an engine made of the first positions of one prompt; `len` of it is their number."""

    @property
    def nbytes(self) -> int: ...

    def __len__(self) -> int: ...

    def first(self, positions: int) -> Self: ...


Kept = TypeVar("Kept", bound=Past)


@runtime_checkable
class ExtendingEngine(Engine[State], Protocol[State, Kept]):
    """An engine that can begin behind what it has run before."""

    def extend(self, prompts: Prompts, pasts: Sequence[Kept | None]) -> tuple[Frontier[State], Sequence[Kept]]:
        """As `prefill`, where `pasts[b]` holds the first positions of prompt b, at most all of them. Gives the past of
        each whole prompt too, in memory of its own."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Entry(Generic[Kept]):
    key: int
    tokens: np.ndarray  # int64 [P, …]
    marks: tuple[int, ...]  # hashes by which it is found
    past: Kept


class PromptCache(Generic[State, Kept]):
    """An engine that remembers the prompts it has read, the latest used, up to `most_bytes` of keys and values.

    For one thread, as the engine is. `hits`: prompts of which nothing but SEP was run; `extensions`: of which a
    beginning was known; `misses`; `nbytes`: of what is kept.
    """

    def __init__(self, engine: ExtendingEngine[State, Kept], most_bytes: int) -> None:
        self.engine = engine
        self.most_bytes = most_bytes
        self.hits = self.extensions = self.misses = self.nbytes = 0
        self._entries: OrderedDict[int, _Entry[Kept]] = OrderedDict()  # the least recently used first
        self._found_by: dict[int, _Entry[Kept]] = {}

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.engine.sizes

    def step(self, state: State, parents: Tensor, codes: Tensor, level: int) -> Frontier[State]:
        return self.engine.step(state, parents, codes, level)

    def prefill(self, prompts: Prompts) -> Frontier[State]:
        """What the engine's own gives, to rounding."""
        tokens, lengths = prompts.tokens.cpu().numpy(), prompts.lengths.tolist()
        hashes = _prefix_hashes(tokens)
        known = [self._longest(tokens[b, :length], hashes[b]) for b, length in enumerate(lengths)]
        frontier, pasts = self.engine.extend(prompts, known)
        for b, (length, past) in enumerate(zip(lengths, known, strict=True)):
            common = 0 if past is None else len(past)
            self.hits += 0 < common == length
            self.extensions += 0 < common < length
            self.misses += not common
            if common < length and pasts[b].nbytes <= self.most_bytes:
                self._keep(tokens[b, :length], hashes[b], pasts[b], common)
        return frontier

    def _longest(self, tokens: np.ndarray, hashes: np.ndarray) -> Kept | None:
        """The past of as many first positions of these tokens as any kept prompt shares."""
        for length in range(len(tokens), 0, -1):
            entry = self._found_by.get(int(hashes[length]))
            if entry is not None and np.array_equal(entry.tokens[:length], tokens[:length]):
                self._entries.move_to_end(entry.key)
                return entry.past.first(length)
        return None

    def _keep(self, tokens: np.ndarray, hashes: np.ndarray, past: Kept, common: int) -> None:
        """In place of the kept prompt that is its beginning, if one is: the longer one serves for both."""
        length = len(tokens)
        for key in (int(hashes[common]), int(hashes[length])):  # the latter where a batch holds a prompt twice
            if key in self._entries:
                self._drop(self._entries[key])
        marks = tuple(int(hashes[place]) for place in (*range(MARK, length, MARK), length))
        entry = _Entry(key=marks[-1], tokens=tokens.copy(), marks=marks, past=past)
        self._entries[entry.key] = entry
        self._found_by.update(dict.fromkeys(marks, entry))
        self.nbytes += past.nbytes
        while self.nbytes > self.most_bytes:
            self._drop(next(iter(self._entries.values())))

    def _drop(self, entry: _Entry[Kept]) -> None:
        del self._entries[entry.key]
        self.nbytes -= entry.past.nbytes
        for mark in entry.marks:
            if self._found_by.get(mark) is entry:
                del self._found_by[mark]


def _prefix_hashes(tokens: np.ndarray) -> np.ndarray:
    """Of the first 0, 1, … T positions of each prompt: [B, T, …] → uint64 [B, T + 1], a polynomial modulo 2^64."""
    flat = tokens.reshape(*tokens.shape[:2], math.prod(tokens.shape[2:])).astype(np.uint64) + np.uint64(1)
    power = np.cumprod(np.full(flat[0].size, _BASE)).reshape(flat.shape[1:])
    hashes = np.zeros((len(flat), flat.shape[1] + 1), dtype=np.uint64)
    np.cumsum((flat * power).sum(axis=2), axis=1, out=hashes[:, 1:])
    return hashes
