"""Linear layers in FP8 (e4m3), for chips that multiply it: half of bf16's bytes, twice its FLOP/s.

Weights have one scale an output, fixed; activations one a row, taken from the row itself. So there is nothing to
calibrate. What it costs in recall is measured before it is used: `optimise` decides, not this module.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import ScalingType, scaled_mm  # type: ignore[attr-defined]

FP8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FP8).max
TINY = 1e-12
CAPABILITY = (8, 9)
"""The first compute capability that multiplies FP8."""


class Fp8Linear(nn.Module):
    """In place of an `nn.Linear` whose sides are multiples of 16."""

    weight: Tensor  # FP8 [out, in]
    scale: Tensor  # float32 [1, out]

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        if linear.in_features % 16 or linear.out_features % 16:
            raise ValueError(
                f"a layer of {linear.in_features} × {linear.out_features} cannot run in FP8, whose matrices have sides "
                "of multiples of 16: use bf16"
            )
        weight, scale = _quantised(linear.weight.detach())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale.mT)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """bf16 [..., in] → bf16 [..., out]"""
        rows, scale = _quantised(x.flatten(0, -2))
        product: Tensor = scaled_mm(
            rows,
            self.weight.mT,
            scale,
            ScalingType.RowWise,
            self.scale,
            ScalingType.RowWise,
            output_dtype=torch.bfloat16,
            use_fast_accum=True,
        )
        product = product.view(*x.shape[:-1], -1)
        return product if self.bias is None else product + self.bias


def in_fp8(module: nn.Module) -> None:
    """Put `Fp8Linear` in place of every linear layer below a module."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, Fp8Linear(child))
        else:
            in_fp8(child)


def _quantised(rows: Tensor) -> tuple[Tensor, Tensor]:
    """[M, N] → FP8 [M, N] and the scale of each row, float32 [M, 1]"""
    scale = rows.float().abs().amax(dim=1, keepdim=True).clamp(min=TINY) / LARGEST
    return (rows.float() / scale).to(FP8), scale
