"""The engine on TensorRT's plans, for GPUs: tensors of torch in and out by their addresses, on torch's stream.

Plans are of fixed kernels, so `GraphSearch` may record a search over them. No GPU has run this module yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from nextpage.decoding.engine import Frontier, Prompts
from nextpage.decoding.engines.engine_folder import EngineRefused
from nextpage.decoding.engines.onnx_graphs import HEADS, PREFILL, STEP, cache_names
from nextpage.decoding.engines.tensorrt_plan import sizes_of
from nextpage.tokenizers.vocabulary import PAD, Vocabulary

if TYPE_CHECKING:
    import tensorrt as trt  # type: ignore[import-untyped]
else:
    from nextpage.decoding.engines.tensorrt_plan import trt


@dataclass(frozen=True, kw_only=True)
class PlanState:
    """All that the next step needs; shapes as in the graphs."""

    prompt: tuple[Tensor, ...]  # keys and values of each layer in turn, [B, G, P, K]
    suffix: tuple[Tensor, ...]  # the beams' own, [B, W, G, J, K]
    lengths: Tensor  # int64 [B]


class TensorRtEngine:
    """Runs the plans that `tensorrt_plan.build` wrote into a folder, on the current GPU."""

    def __init__(self, folder: Path) -> None:
        heads = load_file(folder / HEADS, device="cuda")
        self._heads = [heads[f"head.{level}"] for level in range(len(heads))]
        self.sizes = tuple(len(head) for head in self._heads)
        self._levels = torch.arange(len(heads), device="cuda").unbind()
        # A context sets itself up anew when shapes change: each level has one that sees the same shapes every time.
        self._contexts = contexts((folder / PREFILL).with_suffix(".plan"), 1)
        if len(heads) > 1:
            self._contexts += contexts((folder / STEP).with_suffix(".plan"), len(heads) - 1)

    def prefill(self, prompts: Prompts) -> Frontier[PlanState]:
        """The engine's contract; see `nextpage/decoding/engine.py`."""
        room_for_sep = (0, 0, 0, 1) if prompts.tokens.ndim == 3 else (0, 1)
        tokens = F.pad(prompts.tokens, room_for_sep, value=PAD)
        context = self._contexts[0]
        logits, *prompt = run(context, {"tokens": tokens, "lengths": prompts.lengths, "head": self._heads[0]})
        suffix = self._no_suffix(prompt) if len(self.sizes) > 1 else ()
        return Frontier(logits=logits, state=PlanState(prompt=tuple(prompt), suffix=suffix, lengths=prompts.lengths))

    def step(self, state: PlanState, parents: Tensor, codes: Tensor, level: int) -> Frontier[PlanState]:
        """The engine's contract; see `nextpage/decoding/engine.py`."""
        start, _ = Vocabulary(self.sizes).level_range(level - 1)
        layers = len(state.prompt) // 2
        given = {
            "tokens": codes.long() + start,
            "parents": parents.long(),
            "lengths": state.lengths,
            "level": self._levels[level],
            "head": self._heads[level],
            **dict(zip(cache_names("prompt", layers), state.prompt, strict=True)),
            **dict(zip(cache_names("suffix", layers), state.suffix, strict=True)),
        }
        logits, *grown = run(self._contexts[level], given)
        return Frontier(logits=logits, state=PlanState(prompt=state.prompt, suffix=tuple(grown), lengths=state.lengths))

    def _no_suffix(self, prompt: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What the first step reads past: one beam a prompt."""
        batch, groups, _, width = prompt[0].shape
        return tuple(kv.new_zeros(batch, 1, groups, len(self.sizes) - 1, width) for kv in prompt)


def contexts(path: Path, number: int) -> list[trt.IExecutionContext]:
    """Of one plan, whose weights they share. Raises EngineRefused where this GPU cannot load it."""
    engine = trt.Runtime(trt.Logger(trt.Logger.Severity.WARNING)).deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise EngineRefused("unreadable", f"TensorRT cannot load {path} here: build it on this machine, with optimise")
    return [engine.create_execution_context() for _ in range(number)]


def run(context: trt.IExecutionContext, given: dict[str, Tensor]) -> list[Tensor]:
    """The plan's outputs in their order, on the current stream. Raises ValueError for a shape that it does not take."""
    held, outputs = [], []  # until the kernels are queued; memory freed later is reused on the same stream only
    for name, tensor in given.items():
        least, _, most = context.engine.get_tensor_profile_shape(name, 0)
        check_shape(name, tuple(tensor.shape), sizes_of(least), sizes_of(most))
        held.append(tensor.contiguous())
        context.set_input_shape(name, tuple(tensor.shape))
        context.set_tensor_address(name, held[-1].data_ptr())
    for index in range(context.engine.num_io_tensors):
        name = context.engine.get_tensor_name(index)
        if context.engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT:
            dtype = torch_dtype(context.engine.get_tensor_dtype(name))
            outputs.append(torch.empty(sizes_of(context.get_tensor_shape(name)), dtype=dtype, device="cuda"))
            context.set_tensor_address(name, outputs[-1].data_ptr())
    if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
        raise RuntimeError("TensorRT did not run the plan: its log says why")
    return outputs


def check_shape(name: str, shape: tuple[int, ...], least: tuple[int, ...], most: tuple[int, ...]) -> None:
    """Raises ValueError unless a plan built for shapes from `least` to `most` takes this one."""
    inside = len(shape) == len(least) and all(
        low <= size <= high for low, size, high in zip(least, shape, most, strict=True)
    )
    if not inside:
        raise ValueError(f"{name} has shape {shape}, the plan takes {least} to {most}: build it for wider PlanShapes")


def torch_dtype(dtype: trt.DataType) -> torch.dtype:
    """Raises KeyError for one that the graphs do not have."""
    return {
        trt.DataType.FLOAT: torch.float32,
        trt.DataType.HALF: torch.float16,
        trt.DataType.BF16: torch.bfloat16,
        trt.DataType.INT64: torch.int64,
    }[dtype]
