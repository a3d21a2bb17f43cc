"""What the search asks of an engine, whatever runs the model: prompts in, logits over one level's codes out.

An engine keeps no position or cache of its own. Each call returns a `Frontier`, whose state the next call takes; a
state is never changed, so that two searches may start from one prefill.

Letters in names and comments: B prompts, T tokens of the longest prompt, L levels of a semantic ID, W beams, S codes
of the level.
"""

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

State = TypeVar("State")


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Histories, padded on the right; what stands at or after a prompt's length is ignored."""

    tokens: Tensor  # int64 [B, T, L]: an item a position, merged; or [B, T]: plain tokens
    lengths: Tensor  # int64 [B], 0 to T

    def __post_init__(self) -> None:
        batch, longest = self.tokens.shape[:2]
        if self.lengths.shape != (batch,):
            raise ValueError(f"{batch} prompts have lengths of shape {tuple(self.lengths.shape)}: one length a prompt")
        if batch and not 0 <= int(self.lengths.min()) <= int(self.lengths.max()) <= longest:
            raise ValueError(f"a prompt's length leaves the range 0 to {longest}, the positions of `tokens`")

    def to(self, device: torch.device | str) -> "Prompts":
        return Prompts(tokens=self.tokens.to(device), lengths=self.lengths.to(device))


@dataclass(frozen=True, kw_only=True)
class Frontier(Generic[State]):
    """Where a search stands: for each beam the logits of its next code, and what the engine must remember."""

    logits: Tensor  # float [B, W, S]
    state: State


class Engine(Protocol[State]):
    """Runs the model for the search."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codebook size of each level that it generates."""

    def prefill(self, prompts: Prompts) -> Frontier[State]:
        """Read the prompts. One beam each, logits over the codes of level 0: [B, 1, sizes[0]]."""

    def step(self, state: State, parents: Tensor, codes: Tensor, level: int) -> Frontier[State]:
        """Extend beams by one code of `level` - 1 and give logits over the codes of `level`: [B, W, sizes[level]].

        parents int [B, W] are places in the frontier that `state` came with; codes int [B, W]. 1 ≤ level < L.
        """
