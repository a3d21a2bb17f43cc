"""A small training run as a process of its own: `python -m tests.training.worker FOLDER STEPS [key=value …]`."""

import sys
import time
from pathlib import Path

import torch.distributed as dist
import yaml

from nextpage.layouts.pages import PagesConfig
from nextpage.objectives.next_token import NextToken
from nextpage.training.batches import Batches
from nextpage.training.config import TrainingConfig
from nextpage.training.deepspeed_engine import join, leave
from nextpage.training.loop import train
from tests.histories import random_item_tokens, random_sequences, small_decoder


def main() -> None:
    folder, steps = Path(sys.argv[1]), int(sys.argv[2])
    settings = {key: yaml.safe_load(value) for key, value in (setting.split("=") for setting in sys.argv[3:])}
    pause = settings.pop("pause", 0)
    config = TrainingConfig(
        **{"steps": steps, "batch_tokens": 400, "log_every": 1, "checkpoint_every": 3, "bf16": False} | settings
    )
    batches = Batches(
        sequences=random_sequences(24),
        item_tokens=random_item_tokens(),
        layout=PagesConfig(page_items=4),
        batch_tokens=config.batch_tokens,
        seed=config.seed,
    )
    if pause:  # so that a test can hit a step in the middle
        lay_out = Batches.walk

        def slow(self: Batches, **of: int):  # type: ignore[no-untyped-def]
            for packed in lay_out(self, **of):
                time.sleep(pause)
                yield packed

        Batches.walk = slow  # type: ignore[method-assign]
    join()
    weights = train(NextToken(small_decoder()), batches, config, folder)
    if dist.get_rank() == 0:
        from safetensors.torch import save_file

        save_file(weights, folder / "weights.safetensors")
    leave()


if __name__ == "__main__":
    main()
