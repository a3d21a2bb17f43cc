"""A base model, aligned to rewards, and held against itself."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from nextpage.alignment.course import COURSE, Course
from nextpage.alignment.gate import differences, judge_alignment
from nextpage.alignment.ground import Ground
from nextpage.alignment.on_policy import OnPolicy
from nextpage.alignment.pages import TrainingPages
from nextpage.alignment.pairs import Pairs
from nextpage.alignment.policy import PolicyGradient
from nextpage.alignment.preference import Preference
from nextpage.alignment.rewards import Judge, RewardsConfig, rewards
from nextpage.alignment.standing import Earned, Standing, stand
from nextpage.evaluation.bootstrap import Interval
from nextpage.gates import Verdict
from nextpage.interactions.sequences import Sequences
from nextpage.models.decoder import CausalDecoder
from nextpage.objectives.objective import Objective
from nextpage.training.loop import Batches, train


def align(ground: Ground, judge: Judge, folder: Path) -> dict[str, torch.Tensor]:
    """Train the base as its recipe says, on from the newest checkpoint in `folder`; the fp32 weights that go on.

    Every process of the group calls this. `folder` gets the log, the checkpoints and the course.
    """
    config, model = ground.config, ground.base()
    objective, batches = learning(ground, judge, model)
    held_out = ground.held_out(config.watched)
    generation = ground.generation(model, config.prompt_items)
    course = Course(folder / COURSE, lambda: stand(generation, held_out, earned(ground, judge)).figures)
    if dist.get_rank() == 0 and not course.path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        course(0)
    trained = train(objective, batches, config.loop, folder, title="align", watch=course)
    return interpolated(ground.base().state_dict(), trained, config.interpolation)


def interpolated(
    base: Mapping[str, torch.Tensor], trained: Mapping[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    """Weights that lie `share` of the way from `base` to `trained`, of the same names."""
    return {name: torch.lerp(base[name].cpu(), weight.cpu(), share) for name, weight in trained.items()}


def learning(ground: Ground, judge: Judge, model: CausalDecoder) -> tuple[Objective, Batches]:
    """What the recipe has `model` learn, and from what."""
    config = ground.config
    asking: dict[str, Any] = {
        "generation": ground.generation(model, config.prompt_items),
        "pages": TrainingPages.of(ground.slices, config.loop.seed),
        "judge": judge,
        "rewards": ground.recipe.part("rewards", RewardsConfig),
        "prompts": config.prompts,
        "seed": config.loop.seed,
    }
    if config.objective == "policy":
        return PolicyGradient(model, config.policy), OnPolicy(**asking, config=config.policy)
    reference = ground.base().to(torch.bfloat16 if config.loop.bf16 else torch.float32).requires_grad_(False)
    return (
        Preference(model, config.preference.beta),
        Pairs(**asking, config=config.preference, reference=reference),
    )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Base and aligned model on the gate's requests, and what the gate says."""

    verdict: Verdict
    base: Standing
    aligned: Standing
    differences: dict[str, Interval]


def compare(ground: Ground, judge: Judge, weights: Mapping[str, torch.Tensor]) -> Comparison:
    """Hold aligned weights against the base."""
    config, held_out = ground.config.gate, ground.held_out(ground.config.gate.requests)
    base, aligned = (
        stand(ground.as_released(of), held_out, earned(ground, judge)) for of in (ground.base().state_dict(), weights)
    )
    users = held_out.trial.user_id
    return Comparison(
        verdict=judge_alignment(base, aligned, users, config),
        base=base,
        aligned=aligned,
        differences=differences(base, aligned, users, config),
    )


def earned(ground: Ground, judge: Judge) -> Earned:
    """The recipe's reward of items, as on pages whose outcome is not known: nothing is anchored."""
    config = replace(ground.recipe.part("rewards", RewardsConfig), anchored=False)

    def of(prompts: Sequences, items: np.ndarray) -> np.ndarray:
        return rewards(prompts, items, [], judge, config)

    return of
