"""The alignment process: `python -m nextpage.alignment`, or many of it under torchrun.

Reads a sealed base release, the features folder and the dataset that it was made from; writes the reward model, the
aligned weights, the course of the training, and `outcome.json`: how well the reward model judges, figures before and
after, and the gate's verdict. Killed, it goes on from its checkpoints.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch.distributed as dist
from safetensors.torch import save_file

from nextpage.alignment.align import align, compare
from nextpage.alignment.catalogue import read_catalogue
from nextpage.alignment.gate import GATE
from nextpage.alignment.ground import Ground, read_ground
from nextpage.alignment.reward_items import RewardItems
from nextpage.alignment.reward_model import RewardModelConfig, write
from nextpage.alignment.reward_training import train_reward_model
from nextpage.alignment.reward_validation import held_out_histories, measure_reward_model, refusal
from nextpage.alignment.rewards import Judge
from nextpage.gates import Verdict
from nextpage.training.deepspeed_engine import join, leave, own_device


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nextpage.alignment", description=__doc__)
    parser.add_argument("--release", type=Path, required=True, help="the base: a sealed release")
    parser.add_argument("--features", type=Path, required=True, help="the features folder")
    parser.add_argument("--dataset", type=Path, required=True, help="the dataset folder")
    parser.add_argument("--output", type=Path, required=True, help="folder of what is made")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    join()
    try:
        ground = read_ground(arguments.release, arguments.features, arguments.dataset)
        outcome = _aligned(ground, arguments.output)
        if dist.get_rank() == 0:
            (arguments.output / "outcome.json").write_text(json.dumps(outcome, indent=1))
        dist.barrier()  # the first process judges alone, and gloo aborts a process whose peer is gone
    finally:
        leave()


def _aligned(ground: Ground, output: Path) -> dict[str, Any]:
    """Train the reward model, then the policy; what `outcome.json` says of it."""
    if ground.config.objective == "none":
        return _untrained(ground, "the recipe's objective is none, so nothing was aligned", {})
    catalogue = read_catalogue(ground.release, ground.dataset)
    config = ground.recipe.part("reward_model", RewardModelConfig)
    items = RewardItems.of(catalogue, ground.slices)
    model = train_reward_model(config, items, ground.slices, output / "reward_model")
    item_ids = ground.semantic_ids.item_ids.tolist()
    quality = measure_reward_model(model, held_out_histories(ground.dataset, item_ids, ground.config.gate.split))
    refused = refusal(quality, config)
    if refused:
        return _untrained(ground, refused, asdict(quality))
    judge = Judge(catalogue=catalogue, reward_model=model.to(own_device()))
    weights = align(ground, judge, output)
    if dist.get_rank() != 0:
        return {}
    write(model, output / "reward_model")
    save_file(weights, output / "weights.safetensors")
    found = compare(ground, judge, weights)
    return {
        "verdict": asdict(found.verdict),
        "trained": True,
        "objective": ground.config.objective,
        "reward_model": asdict(quality),
        "base": found.base.figures,
        "aligned": found.aligned.figures,
        "differences": {name: interval.as_json() for name, interval in found.differences.items()},
    }


def _untrained(ground: Ground, reason: str, quality: dict[str, Any]) -> dict[str, Any]:
    return {
        "verdict": asdict(Verdict(gate=GATE, passed=False, reasons=(reason,))),
        "trained": False,
        "objective": ground.config.objective,
        "reward_model": quality,
        "base": {},
        "aligned": {},
        "differences": {},
    }


if __name__ == "__main__":
    main()
