"""A DeepSpeed engine's weights and moments as whole tensors, whichever processes and ZeRO stage hold the parts."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist

MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's."""


def begin(engine: Any, step: int = 0) -> None:
    """Give a fresh engine its moments, all zero. Every process calls this before the first step and before `write`.

    AdamW makes them at its first step, and DeepSpeed then finds those of the first group of weights only.
    """
    optimizer = engine.optimizer
    adamw = getattr(optimizer, "optimizer", optimizer)
    for flat in _flat_weights(optimizer):
        count = torch.tensor(float(step), device=flat.device)
        adamw.state[flat] = {"step": count, **{moment: torch.zeros_like(flat) for moment in MOMENTS}}
    if hasattr(optimizer, "_lazy_init_hp_params_optimizer_state"):
        optimizer._lazy_init_hp_params_optimizer_state()


def read(engine: Any) -> dict[str, torch.Tensor]:
    """After a step at least: `weight/name` (fp32) and each moment as `exp_avg/name`, on the CPU of the first process.

    Every process calls this; on the others it is empty.
    """
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    found: dict[str, torch.Tensor] = {}
    for name, weight in _learnt(engine):
        if _partitioned(weight):
            whole = [safe_get_full_fp32_param(weight)]
            whole += [safe_get_full_optimizer_state(weight, moment) for moment in MOMENTS]
        else:
            whole = [weight, *(engine.optimizer.state[weight][moment] for moment in MOMENTS)]
        if dist.get_rank() == 0:
            for kind, tensor in zip(("weight", *MOMENTS), whole, strict=True):
                found[f"{kind}/{name}"] = tensor.detach().float().cpu().clone()
    return found


def write(engine: Any, tensor: Callable[[str], torch.Tensor], step: int) -> None:
    """Make a fresh engine what it was after `step` steps. Every process calls this; `tensor` finds what `read` gave."""
    begin(engine, step)
    for name, weight in _learnt(engine):
        _set(engine, weight, tensor(f"weight/{name}"), [tensor(f"{moment}/{name}") for moment in MOMENTS])


def _set(engine: Any, weight: torch.nn.Parameter, whole: torch.Tensor, moments: list[torch.Tensor]) -> None:
    import deepspeed
    from deepspeed.utils import (
        safe_set_full_fp32_param,
        safe_set_full_optimizer_state,
        safe_set_local_fp32_param,
        safe_set_local_optimizer_state,
    )

    if hasattr(weight, "ds_id"):  # ZeRO-3: the setters of whole tensors cannot take one that processes share unevenly
        safe_set_local_fp32_param(weight, _share(weight, whole))
        for name, moment in zip(MOMENTS, moments, strict=True):
            safe_set_local_optimizer_state(weight, _share(weight, moment), name)
        with deepspeed.zero.GatheredParameters([weight], modifier_rank=0):
            weight.data.copy_(whole.view_as(weight))
        return
    weight.data.copy_(whole)
    if _partitioned(weight):
        safe_set_full_fp32_param(weight, whole)
        for name, moment in zip(MOMENTS, moments, strict=True):
            safe_set_full_optimizer_state(weight, moment, name)
    else:
        for name, moment in zip(MOMENTS, moments, strict=True):
            engine.optimizer.state[weight][name].copy_(moment)


def _flat_weights(optimizer: Any) -> list[torch.Tensor]:
    """What AdamW itself sees: this process's parts of the groups of weights, in fp32."""
    for name in ("fp32_partitioned_groups_flat", "single_partition_of_fp32_groups", "fp32_groups_flat_partition"):
        if hasattr(optimizer, name):  # of ZeRO-3, ZeRO-1 and 2, and ZeRO-1 with fp32 gradients
            return list(getattr(optimizer, name))
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def _share(weight: Any, whole: torch.Tensor) -> torch.Tensor:
    """This process's part under ZeRO-3, with zeros after the end."""
    size = weight.ds_tensor.numel()
    padded = torch.zeros(size * dist.get_world_size())
    padded[: whole.numel()] = whole.flatten()
    return padded[dist.get_rank() * size :][:size]


def _learnt(engine: Any) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, weight) for name, weight in engine.module.named_parameters() if weight.requires_grad)


def _partitioned(weight: torch.nn.Parameter) -> bool:
    return hasattr(weight, "ds_id") or hasattr(weight, "_hp_mapping")
