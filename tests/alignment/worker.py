"""A small alignment as a process of its own: `python -m tests.alignment.worker FOLDER STEPS OBJECTIVE [PAUSE]`."""

import sys
import time
from pathlib import Path

import torch.distributed as dist
from safetensors.torch import save_file

from nextpage.alignment.on_policy import OnPolicy
from nextpage.alignment.pairs import Pairs, PreferenceConfig
from nextpage.alignment.policy import PolicyConfig, PolicyGradient
from nextpage.alignment.preference import Preference
from nextpage.alignment.rewards import RewardsConfig
from nextpage.training.config import LoopConfig
from nextpage.training.deepspeed_engine import join, leave
from nextpage.training.loop import Batches, train
from tests.alignment.small import generation, judge, pages, policy


class Slowly:
    """The same batches with a pause after each, so that a test can hit a step in the middle."""

    def __init__(self, batches: Batches, pause: float) -> None:
        self.batches, self.pause = batches, pause

    def walk(self, **of: int):  # type: ignore[no-untyped-def]
        for batch in self.batches.walk(**of):
            time.sleep(self.pause)
            yield batch


def main() -> None:
    folder, steps, objective = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    pause = float(sys.argv[4]) if len(sys.argv) > 4 else 0.0
    join()
    model = policy().bfloat16() if objective == "bf16" else policy()
    asking = {
        "generation": generation(model),
        "pages": pages(),
        "judge": judge(),
        "rewards": RewardsConfig(terms={"value": 1.0}, gate=None),
        "prompts": 4,
        "seed": 0,
    }
    if objective == "preference":
        learnt = Preference(model, beta=0.5)
        batches = Pairs(**asking, config=PreferenceConfig(rejected=2, candidates=8), reference=policy())
    else:
        config = PolicyConfig(group=6, nll_weight=0.05)
        learnt, batches = PolicyGradient(model, config), OnPolicy(**asking, config=config)
    loop = LoopConfig(
        steps=steps, learning_rate=1e-3, log_every=1, checkpoint_every=3, bf16=objective == "bf16", weight_decay=0.0
    )
    weights = train(learnt, Slowly(batches, pause), loop, folder)
    if dist.get_rank() == 0:
        save_file(weights, folder / "weights.safetensors")
    dist.barrier()  # gloo aborts a process whose peer is gone
    leave()


if __name__ == "__main__":
    main()
