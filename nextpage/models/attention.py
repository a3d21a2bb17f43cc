"""Attention over packed sequences: a dense reference, and the path that does only the work the mask leaves."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from nextpage.layouts.packed import Packed, visible
from nextpage.models.decoder import Attend

WHOLE = slice(None)


def dense_attention(packed: Packed) -> Attend:
    """The reference: every token against every token under the mask, O(N²)."""
    mask = visible(packed, WHOLE, WHOLE)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(0, 1) for x in (q, k, v))  # [heads, N, K]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True).transpose(0, 1)

    return attend


def branch_attention(packed: Packed) -> Attend:
    """Sequence by sequence: context sees context, targets see context and their own bin, and nothing else is computed.

    With C context and T target tokens in bins of S, a sequence costs C² + T·(C + S) scores in place of (C + T)².
    """
    parts = [_branches(packed, *span) for span in packed.spans]
    sizes = [size for start, middle, stop in packed.spans for size in (middle - start, stop - middle)]

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        repeat = q.shape[1] // k.shape[1]
        k, v = (x.repeat_interleave(repeat, dim=1) for x in (k, v))
        # One split, whose gradient is one concatenation: a slice a sequence would add up N-sized gradients.
        pieces = [x.transpose(0, 1).split(sizes, dim=1) for x in (q * q.shape[-1] ** -0.5, k, v)]  # [H, C or T, K]
        attended = [
            part([x[2 * row] for x in pieces], [x[2 * row + 1] for x in pieces]) for row, part in enumerate(parts)
        ]
        return torch.cat(attended, dim=1).transpose(0, 1)

    return attend


def _branches(packed: Packed, start: int, middle: int, stop: int) -> Callable[[list[Tensor], list[Tensor]], Tensor]:
    """Attention of one sequence: H heads, C context tokens, T targets in T/S bins."""
    context, targets, size = slice(start, middle), slice(middle, stop), packed.bin_size
    among_context = _bias(visible(packed, context, context))  # [C, C]
    to_context = _bias(visible(packed, targets, context))  # [T, C]
    bins = [_bias(visible(packed, slice(at, at + size), slice(at, at + size))) for at in range(middle, stop, size)]
    in_bin = torch.stack(bins) if bins else torch.zeros(0, size, size)  # [T/S, S, S]

    def attend(of_context: list[Tensor], of_targets: list[Tensor]) -> Tensor:
        q_context, k_context, v_context = of_context
        seen = torch.softmax(q_context @ k_context.mT + among_context.to(q_context.dtype), -1) @ v_context
        q, k, v = (x.reshape(len(x), -1, size, x.shape[-1]) for x in of_targets)  # [H, T/S, S, K]
        own = q @ k.mT + in_bin.to(q.dtype)  # [H, T/S, S, S]
        to_past = of_targets[0] @ k_context.mT + to_context.to(q.dtype)
        scores = torch.cat([to_past, own.flatten(1, 2)], dim=-1)  # [H, T, C + S]
        share_context, share_bin = torch.split(torch.softmax(scores, -1), [middle - start, size], dim=-1)
        branched = share_context @ v_context + (share_bin.reshape(own.shape) @ v).flatten(1, 2)
        return torch.cat([seen, branched], dim=1)

    return attend


def _bias(mask: Tensor) -> Tensor:
    return torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, float("-inf"))
