"""Reward models of planted logs, trained by the loop: `python -m tests.alignment.reward_worker FOLDER`."""

import sys
from pathlib import Path

from nextpage.alignment.reward_items import RewardItems
from nextpage.alignment.reward_model import RewardModelConfig, write
from nextpage.alignment.reward_training import train_reward_model
from nextpage.interactions.sequences import Sequences
from nextpage.training.config import LoopConfig
from nextpage.training.deepspeed_engine import join, leave
from tests.alignment.planted import catalogue, one_category_each, shuffled

CONFIG = RewardModelConfig(
    events=48,
    soft_events=12,
    width=16,
    mlp_width=32,
    batch_pages=48,
    loop=LoopConfig(steps=90, learning_rate=1e-2, warmup=0.02, weight_decay=0.01, bf16=False, log_every=5),
)


def logs() -> dict[str, Sequences]:
    """The training logs by the name of their folder."""
    return {
        "planted": one_category_each(120),
        "orders-only": one_category_each(120, orders_only=True),
        "shuffled": shuffled(one_category_each(120)),
    }


def main() -> None:
    join()
    for name, slices in logs().items():
        folder = Path(sys.argv[1]) / name
        write(train_reward_model(CONFIG, RewardItems.of(catalogue(), slices), slices, folder), folder)
    leave()


if __name__ == "__main__":
    main()
