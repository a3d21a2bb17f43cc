"""What the training loop asks of whatever is learnt."""

from abc import ABC, abstractmethod
from typing import Any, Protocol, TypeVar

from torch import Tensor, device, nn

Moved = TypeVar("Moved", bound="Batch")


class Batch(Protocol):
    """What one process learns from in one step."""

    @property
    def padding(self) -> float:
        """The share of it from which nothing is learnt."""

    def __len__(self) -> int:
        """Its size, in the unit that throughput is told in: tokens, or candidates."""

    def to(self: Moved, device: device | str) -> Moved: ...


class Objective(nn.Module, ABC):
    """A loss with the model that it trains, as one module: which is what DeepSpeed wraps.

    `forward` gives M losses and their weights, float32 [M] each; the loop minimises Σ losses · weights / Σ weights over
    all processes.
    """

    model: nn.Module

    @abstractmethod
    def forward(self, batch: Any) -> tuple[Tensor, Tensor]: ...

    @abstractmethod
    def flops(self, batch: Any) -> float:
        """Forward floating-point operations of a batch."""

    def read_outside(self) -> tuple[Tensor, ...]:
        """Weights that are read outside the forward of the module that holds them: ZeRO-3 has to be told."""
        return ()
