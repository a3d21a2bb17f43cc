"""The eager engine with what a GPU does better: bf16 or FP8 layers, and the Triton kernel of beam attention."""

import copy
import logging
from collections.abc import Callable

import torch
from torch import Tensor

from nextpage.decoding.engines.eager import EagerEngine, LayerCache
from nextpage.decoding.engines.fp8 import CAPABILITY, in_fp8
from nextpage.decoding.engines.hardware import triton_runs
from nextpage.models.decoder import CausalDecoder

logger = logging.getLogger(__name__)


class CudaEngine(EagerEngine):
    """In bf16. On a CPU it attends by torch's operators and makes logits as the eager engine does."""

    def __init__(self, decoder: CausalDecoder, *, fp8: bool = False) -> None:
        """`fp8`: linear layers in FP8. Raises ValueError where the chip has none."""
        super().__init__(decoder, dtype=torch.bfloat16)
        device = self.decoder.embed_tokens.weight.device
        if fp8:
            _check_fp8(device)
            self.decoder = copy.deepcopy(self.decoder)
            in_fp8(self.decoder.layers)
        self._fused = _triton_attend() if device.type == "cuda" else None

    def _attend(self, cache: LayerCache, q: Tensor, bias: Tensor) -> Tensor:
        return super()._attend(cache, q, bias) if self._fused is None else self._fused(cache, q, bias)

    def _logits(self, x: Tensor, level: int) -> Tensor:
        """The sums in fp32, as in eager's, but no copy of the head in fp32 for each call."""
        if x.device.type == "cpu":  # has no such product
            return super()._logits(x, level)
        start, stop = self.decoder.config.level_ranges[level]
        hidden, head = self.decoder.norm(x), self.decoder.output_weight[start:stop]
        logits = torch.mm(hidden.flatten(0, -2), head.mT, out_dtype=torch.float32)
        return logits.view(*x.shape[:-1], -1)


def _check_fp8(device: torch.device) -> None:
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < CAPABILITY:
        raise ValueError(
            f"{torch.cuda.get_device_name(device)} has no FP8, which begins with compute capability "
            f"{'.'.join(map(str, CAPABILITY))}: use bf16"
        )


def _triton_attend() -> Callable[[LayerCache, Tensor, Tensor], Tensor] | None:
    if not triton_runs():
        logger.warning("beams attend by torch's operators: Triton, or the C compiler that it needs, is not here")
        return None
    from nextpage.decoding.engines.beam_attention import attend

    return attend
