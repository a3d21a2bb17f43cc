"""Prints, a line a random shape, how far the Triton kernel is from torch's path; run with TRITON_INTERPRET=1."""

import json

import torch

from nextpage.decoding.beam_attention import attend
from nextpage.decoding.eager import LayerCache

SHAPES = [
    # prompts, beams, positions, key-value heads, repeats, width, codes, whether keys and values lie interleaved
    (1, 1, 1, 1, 1, 8, 0, False),
    (2, 1, 70, 2, 2, 16, 0, True),
    (1, 40, 65, 1, 1, 32, 1, False),
    (3, 7, 130, 2, 3, 24, 2, False),
    (2, 33, 64, 3, 1, 16, 3, True),
    (1, 9, 200, 1, 8, 64, 2, True),
]


def main() -> None:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    for prompts, beams, positions, groups, repeats, width, codes, interleaved in SHAPES:
        kv = random(prompts, positions, 2, groups, width)
        k, v = kv.unbind(2) if interleaved else (part.contiguous() for part in kv.unbind(2))
        suffix = (prompts, beams, codes, groups, width)
        cache = LayerCache(prompt_k=k, prompt_v=v, suffix_k=random(*suffix), suffix_v=random(*suffix))
        lengths = torch.randint(positions, (prompts, 1), generator=generator)
        bias = torch.zeros(prompts, positions).masked_fill(torch.arange(positions) > lengths, -torch.inf)[:, None]
        q = 3 * random(prompts, beams, groups * repeats, width)
        distance = (attend(cache, q, bias) - cache.attend(q, bias)).abs().max().item()
        print(json.dumps(distance))


if __name__ == "__main__":
    main()
