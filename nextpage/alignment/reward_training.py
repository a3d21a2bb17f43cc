"""The reward model from a training log, by the project's own loop."""

from pathlib import Path

import torch

from nextpage.alignment.reward_examples import Draws, RewardBatches, pages_to_learn
from nextpage.alignment.reward_items import RewardItems
from nextpage.alignment.reward_model import RewardModel, RewardModelConfig, RewardObjective, make_reward_model
from nextpage.interactions.sequences import Sequences
from nextpage.training.loop import train


def train_reward_model(config: RewardModelConfig, items: RewardItems, slices: Sequences, folder: Path) -> RewardModel:
    """Learn from the pages of `slices` that are targets, on from the newest checkpoint in `folder`.

    Each process of the group calls this (`deepspeed_engine.join`) and gets the model, in fp32 on the CPU.
    """
    batches = RewardBatches(
        pages=pages_to_learn(slices, config.examples.labels),
        draws=Draws(items, config.examples),
        events=config.events,
        batch_pages=config.batch_pages,
        seed=config.loop.seed,
    )
    torch.manual_seed(config.loop.seed)
    weights = train(
        RewardObjective(make_reward_model(config, items)), batches, config.loop, folder, title="reward model"
    )
    model = make_reward_model(config, items)
    model.load_state_dict(model.state_dict() | weights)
    return model.eval()
