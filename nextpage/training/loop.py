"""The loop that trains whatever has an objective, one process or many."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist

from nextpage.objectives.objective import Batch, Objective
from nextpage.progress import bar
from nextpage.training import checkpoints
from nextpage.training.config import LoopConfig
from nextpage.training.deepspeed_engine import make_engine, weights
from nextpage.training.meter import Meter, peak_flops
from nextpage.training.schedule import learning_rate

TERMINATED = 143
"""Exit status of a process that SIGTERM ended: 128 + 15."""


class Batches(Protocol):
    """Where batches come from."""

    def walk(self, *, start: int, rank: int, processes: int) -> Iterator[Batch]:
        """The share of process `rank` in the batches of steps `start`, `start` + 1, … The batch of a step is made when
        it is asked for, after the update before it: so it may be drawn from the model that is being trained."""


def train(
    objective: Objective,
    batches: Batches,
    config: LoopConfig,
    folder: Path,
    *,
    title: str = "train",
    watch: Callable[[int], None] | None = None,
) -> dict[str, torch.Tensor]:
    """Train `objective.model` from the newest checkpoint in `folder`, or from the start; its fp32 weights at the end.

    Each process of the group calls this (`deepspeed_engine.join`). `folder` holds the checkpoints and `log.jsonl`.
    `watch(step)` is called on the first process after each line of the log. After SIGTERM the step is finished and
    saved, and the process exits with TERMINATED.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rank, processes = dist.get_rank(), dist.get_world_size()
    engine = make_engine(objective, config)
    start = checkpoints.resume(engine, folder)
    walk = batches.walk(start=start, rank=rank, processes=processes)
    peak = peak_flops(torch.bfloat16 if config.bf16 else torch.float32, processes=processes)
    meter = Meter(folder, start=start, peak_flops=peak, write=rank == 0)
    with _sigterm() as terminated, bar(total=config.steps, unit="step", title=title, shown=rank == 0) as moving:
        moving.update(start)
        for step in range(start, config.steps):
            rate = learning_rate(step, steps=config.steps, peak=config.learning_rate, warmup=config.warmup)
            batch = next(walk).to(engine.device)
            loss = _step(engine, batch, rate)
            # Every process has about as much as the first.
            size, flops = len(batch) * processes, objective.flops(batch) * processes
            meter.add(loss, tokens=size, padding=batch.padding, flops=flops)
            moving.update()
            done, last = step + 1, step + 1 == config.steps
            if done % config.log_every == 0 or last:
                line = meter.line(done, rate)
                moving.set_postfix_str(f"loss {line.loss:.3f}, {line.tokens_per_second:,.0f} tokens/s", refresh=False)
                if watch is not None and rank == 0:
                    watch(done)
            stop = _any(bool(terminated))
            if done % config.checkpoint_every == 0 or last or stop:
                checkpoints.save(engine, folder, done, keep=config.keep_checkpoints)
            if stop and not last:
                raise SystemExit(TERMINATED)
    trained = weights(engine)
    engine.destroy()
    return trained


def _step(engine: Any, batch: Batch, rate: float) -> float:
    """One update; the mean loss over what all processes learn."""
    for group in engine.optimizer.param_groups:
        group["lr"] = rate
    losses, loss_weights = engine(batch)
    own_sum, own_weight = (losses * loss_weights).sum(), loss_weights.sum()
    total = torch.stack([own_sum.detach().float(), own_weight.float()])
    dist.all_reduce(total)
    # DeepSpeed averages gradients over processes; what is wanted is the gradient of the mean over all of them.
    engine.backward(own_sum * (dist.get_world_size() / total[1]))
    engine.step()
    return float(total[0] / total[1])


@contextmanager
def _sigterm() -> Iterator[list[int]]:
    """A list that SIGTERM makes non-empty, in place of ending the process."""
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)


def _any(flag: bool) -> bool:
    """Whether it holds in any process: all have to stop after the same step."""
    flags = torch.tensor(float(flag))
    dist.all_reduce(flags)
    return bool(flags > 0)
