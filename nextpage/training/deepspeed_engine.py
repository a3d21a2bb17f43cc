"""Where DeepSpeed comes in: the process group, the engine, the weights out of it again."""

import os
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
import torch.distributed as dist

from nextpage.objectives.objective import Objective
from nextpage.training.config import LoopConfig

BETAS = (0.9, 0.99)
ZERO_PARTITIONS_WEIGHTS = 3


def join() -> None:
    """Join the process group that torchrun describes; a process of its own opens no port."""
    import deepspeed

    # DeepSpeed would compile this shared-memory reduction at start, 20 s for nothing at one process a machine.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if "RANK" in os.environ:
        deepspeed.init_distributed(backend, auto_mpi_discovery=False, verbose=False)
        return
    os.environ["LOCAL_RANK"] = "0"
    meeting = Path(mkdtemp(prefix="nextpage-")) / "group"
    deepspeed.init_distributed(
        backend, auto_mpi_discovery=False, init_method=f"file://{meeting}", rank=0, world_size=1, verbose=False
    )


def own_device() -> torch.device:
    """Where this process trains: a GPU of its own where there are any."""
    from deepspeed.accelerator import get_accelerator

    return torch.device(get_accelerator().device_name(int(os.environ.get("LOCAL_RANK", 0))))


def make_engine(objective: Objective, config: LoopConfig) -> Any:
    """A DeepSpeed engine over the objective, with AdamW that decays matrices only."""
    if config.bf16 and config.zero_stage == 0:
        raise ValueError(
            "zero_stage is 0 and bf16 is on: DeepSpeed would run its fp16 optimiser, whose fp32 weights cannot be read "
            "back at the end; use zero_stage 1, or bf16 false"
        )
    import deepspeed

    if config.zero_stage == ZERO_PARTITIONS_WEIGHTS:
        for weight in objective.read_outside():
            deepspeed.zero.register_external_parameter(objective, weight)
    matrices = [weight for weight in objective.parameters() if weight.ndim > 1]
    vectors = [weight for weight in objective.parameters() if weight.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    # Fused: ZeRO's flat partitions outgrow the cache, and an operation at a time would pass over them six times.
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=BETAS, fused=True)
    settings = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_clipping": config.clip,
        "zero_optimization": {"stage": config.zero_stage},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": config.bf16},
    }
    engine, *_ = deepspeed.initialize(model=objective, optimizer=optimizer, config=settings)
    return engine


def weights(engine: Any) -> dict[str, torch.Tensor]:
    """The model's fp32 weights, whatever ZeRO stage holds them; every process calls this."""
    from deepspeed.utils import safe_get_full_fp32_param

    own_fp32 = engine.zero_optimization() or engine.bfloat16_enabled()
    return {
        name: (safe_get_full_fp32_param(weight) if own_fp32 else weight).detach().float().cpu().clone()
        for name, weight in engine.module.model.named_parameters()
    }


def leave() -> None:
    dist.destroy_process_group()
