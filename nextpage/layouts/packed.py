"""The value every layout returns, and the one mask rule.

A sequence is one user's history: a *context* stream of events in time order, and *target* tokens in blocks (a page, or
an item of it), each block a branch that hangs off the context before its time. A history is encoded once, however
many pages are learnt from it.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

IGNORED = -100
"""The target of a token from which nothing is learnt."""


class Span(NamedTuple):
    """Where one sequence lies among the N tokens: its context is [start, middle), its targets are [middle, stop)."""

    start: int
    middle: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class Packed:
    """N tokens of several sequences, one after another, with no padding between them.

    A context token is a whole item (its L codes become one vector) where `merged_context` says so; every other token is
    one plain token in column 0.
    Targets lie in bins of `bin_size` slots and no block straddles two bins, so what a target sees of its own block is
    inside its bin. The slots that fill up a bin are blocks of their own with nothing to learn.
    """

    tokens: Tensor  # int64 [N, L]
    is_context: Tensor  # bool [N]
    sequence: Tensor  # int64 [N]
    block: Tensor  # int64 [N], distinct over sequences
    position: Tensor  # int64 [N], for rotary embedding: counts what the token sees
    time: Tensor  # int64 [N], of the page
    target: Tensor  # int64 [N], the next token, or IGNORED
    weight: Tensor  # float32 [N], of the token in the loss
    spans: tuple[Span, ...]
    bin_size: int
    merged_context: bool = True

    def __len__(self) -> int:
        return len(self.sequence)

    def to(self, device: torch.device | str) -> "Packed":
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {name: x.to(device) for name, x in columns.items() if isinstance(x, Tensor)}
        return replace(self, **moved)

    @property
    def learnt(self) -> int:
        """How many tokens have something to learn."""
        return int((self.target != IGNORED).sum())

    @property
    def padding(self) -> float:
        """The share of tokens that only fill up a bin."""
        return float((~self.is_context & (self.target == IGNORED)).float().mean())


def visible(packed: Packed, queries: slice, keys: slice) -> Tensor:
    """Which keys each query sees → bool [queries, keys]. The one rule of training and generation.

    Token i sees token j iff they share a sequence, and either j is context from before i's time, or both are in one
    block and j does not come after i.
    """
    share = packed.sequence[queries, None] == packed.sequence[None, keys]
    before = packed.is_context[None, keys] & (packed.time[None, keys] < packed.time[queries, None])
    inside = packed.block[queries, None] == packed.block[None, keys]
    causal = packed.position[None, keys] <= packed.position[queries, None]
    return share & (before | (inside & causal))
