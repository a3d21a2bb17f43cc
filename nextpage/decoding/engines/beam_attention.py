"""Attention of beams to the prompt they share and to their own codes, as one Triton kernel.

A program takes a block of the W · R queries that read one key-value head of one prompt. It walks over the prompt's keys
and values once for all of them, then over each beam's own few codes, under one running softmax (arXiv 1805.02867), and
writes nothing but the result: `LayerCache.attend` without its scores in memory. With `TRITON_INTERPRET=1` in the
environment when this module is first imported, Triton runs it on a CPU.

Letters in names and comments: B prompts, W beams, T positions of a prompt, H heads, G key-value heads, R = H / G, K
width of a head, J codes of the suffix; M queries and N positions of a block.
"""

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from nextpage.decoding.engines.eager import LayerCache

QUERIES, POSITIONS = 32, 64  # of a block; not tuned on a GPU


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(  # type: ignore[no-untyped-def]
    q,
    prompt_k,
    prompt_v,
    suffix_k,
    suffix_v,
    bias,
    out,
    beams,
    groups,
    repeats,
    width,
    positions,
    codes,
    scale,
    stride_b,
    stride_t,
    stride_g,
    M: tl.constexpr,
    N: tl.constexpr,
    K: tl.constexpr,
):
    prompt, group = tl.program_id(1) // groups, tl.program_id(1) % groups
    row, lane = tl.program_id(0) * M + tl.arange(0, M), tl.arange(0, K)  # row: beam · R + repeat
    beam = prompt * beams + row // repeats
    real = (row < beams * repeats)[:, None] & (lane < width)[None, :]
    place = ((beam * groups + group) * repeats + row % repeats)[:, None] * width + lane[None, :]
    query = tl.load(q + place, mask=real, other=0.0)

    top = tl.full([M], float("-inf"), tl.float32)  # the largest score so far
    total = tl.zeros([M], tl.float32)  # of the exponentials so far, relative to it
    mixed = tl.zeros([M, K], tl.float32)  # of the values so far, likewise
    for start in range(0, positions, N):
        position = start + tl.arange(0, N)
        inside = position < positions
        held = inside[:, None] & (lane < width)[None, :]
        at = prompt * stride_b + group * stride_g + position[:, None] * stride_t + lane[None, :]
        key = tl.load(prompt_k + at, mask=held, other=0.0)
        value = tl.load(prompt_v + at, mask=held, other=0.0)
        hidden = tl.load(bias + prompt * positions + position, mask=inside, other=float("-inf")).to(tl.float32)
        score = tl.dot(query, tl.trans(key), input_precision="ieee") * scale + hidden[None, :]
        new_top = tl.maximum(top, tl.max(score, 1))  # finite from the first block on: position 0 is always seen
        weight, kept = tl.exp(score - new_top[:, None]), tl.exp(top - new_top)
        total = total * kept + tl.sum(weight, 1)
        mixed = mixed * kept[:, None] + tl.dot(weight.to(value.dtype), value, input_precision="ieee")
        top = new_top
    for code in range(codes):
        at = ((beam * codes + code) * groups + group)[:, None] * width + lane[None, :]
        key = tl.load(suffix_k + at, mask=real, other=0.0).to(tl.float32)
        value = tl.load(suffix_v + at, mask=real, other=0.0).to(tl.float32)
        own = tl.sum(query.to(tl.float32) * key, 1) * scale
        new_top = tl.maximum(top, own)
        weight, kept = tl.exp(own - new_top), tl.exp(top - new_top)
        total = total * kept + weight
        mixed = mixed * kept[:, None] + weight[:, None] * value
        top = new_top
    tl.store(out + place, (mixed / total[:, None]).to(out.dtype.element_ty), mask=real)


def attend(cache: LayerCache, q: Tensor, bias: Tensor) -> Tensor:
    """As `LayerCache.attend`: q [B, W, H, K], bias [B, 1, T], 0 or -inf and 0 at position 0 → [B, W, H, K]"""
    (batch, beams, heads, width), (positions, groups) = q.shape, cache.prompt_k.shape[1:3]
    prompt_k, prompt_v = cache.prompt_k, cache.prompt_v
    if prompt_k.stride() != prompt_v.stride() or prompt_k.stride(3) != 1:
        prompt_k, prompt_v = prompt_k.contiguous(), prompt_v.contiguous()
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    grid = (triton.cdiv(beams * heads // groups, QUERIES), batch * groups)
    _kernel[grid](
        q.contiguous(),
        prompt_k,
        prompt_v,
        cache.suffix_k.contiguous(),
        cache.suffix_v.contiguous(),
        bias.contiguous(),
        out,
        beams,
        groups,
        heads // groups,
        width,
        positions,
        cache.suffix_k.shape[2],
        width**-0.5,
        *prompt_k.stride()[:3],
        M=QUERIES,
        N=POSITIONS,
        K=max(16, triton.next_power_of_2(width)),
    )
    return out
