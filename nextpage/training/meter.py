"""What training says of itself: a line of figures every few steps."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

LOG = "log.jsonl"
BACKWARD_AND_FORWARD = 3
"""Training FLOPs of a forward FLOP."""


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One line of the log: figures of the steps since the line before."""

    step: int
    loss: float  # nats a token learnt
    learning_rate: float
    tokens: int  # of all processes; candidates, where a reward model learns
    tokens_per_second: float
    mfu: float  # model FLOPs as a share of what a large matrix product of this precision reaches here
    padding: float  # share of the tokens
    seconds: float


class Meter:
    """Adds up steps, and writes their line. Lines of steps that a killed run did after its last checkpoint go."""

    def __init__(self, folder: Path, *, start: int, peak_flops: float, write: bool) -> None:
        self.path = folder / LOG if write else None
        self.peak_flops = peak_flops
        self._reset()
        if self.path:
            lines = self.path.read_text().splitlines() if self.path.exists() else []
            kept = [line for line in lines if json.loads(line)["step"] <= start]
            self.path.write_text("".join(line + "\n" for line in kept))

    def _reset(self) -> None:
        self.steps, self.loss, self.tokens, self.padding, self.flops = 0, 0.0, 0, 0.0, 0.0
        self.started = time.perf_counter()

    def add(self, loss: float, *, tokens: int, padding: float, flops: float) -> None:
        """A step; `tokens` and forward `flops` are those of all processes."""
        self.steps += 1
        self.loss += loss
        self.tokens += tokens
        self.padding += padding
        self.flops += BACKWARD_AND_FORWARD * flops

    def line(self, step: int, rate: float) -> LogLine:
        """Close the stretch that ends with `step`."""
        seconds = time.perf_counter() - self.started
        line = LogLine(
            step=step,
            loss=self.loss / self.steps,
            learning_rate=rate,
            tokens=self.tokens,
            tokens_per_second=self.tokens / seconds,
            mfu=self.flops / seconds / self.peak_flops,
            padding=self.padding / self.steps,
            seconds=seconds,
        )
        if self.path:
            with self.path.open("a") as log:
                log.write(json.dumps(asdict(line)) + "\n")
        self._reset()
        return line


def peak_flops(dtype: torch.dtype, *, processes: int, size: int = 1536, repeats: int = 4) -> float:
    """FLOPs a second that a matrix product reaches here, times the processes; takes well under a second."""
    a, b = torch.randn(2, size, size).to(dtype)
    _ = a @ b
    start = time.perf_counter()
    for _ in range(repeats):
        _ = a @ b
    return processes * repeats * 2 * size**3 / (time.perf_counter() - start)
