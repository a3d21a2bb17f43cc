"""Prints, as JSON, how far the Triton kernels are from torch's path over random shapes; run with TRITON_INTERPRET=1."""

import json
from functools import partial

import torch
from torch import Tensor

from nextpage.decoding.engines.beam_attention import attend
from nextpage.decoding.engines.children_kernel import fused_children
from nextpage.decoding.engines.eager import LayerCache
from nextpage.decoding.engines.static_buffers import HeldFilters, HeldTrie
from nextpage.decoding.filters import PADDING, prefix_rank
from nextpage.decoding.static_search import children, most_candidates
from nextpage.decoding.trie import Trie
from tests.decoding.small import semantic_ids

ATTENTION = [
    # prompts, beams, positions, key-value heads, repeats, width, codes, whether keys and values lie interleaved
    (1, 1, 1, 1, 1, 8, 0, False),
    (2, 1, 70, 2, 2, 16, 0, True),
    (1, 40, 65, 1, 1, 32, 1, False),
    (3, 7, 130, 2, 3, 24, 2, False),
    (2, 33, 64, 3, 1, 16, 3, True),
    (1, 9, 200, 1, 8, 64, 2, True),
]
CHILDREN = [
    # items, codebook sizes, prompts, beams, excluded rows; None: no filter
    (1, (3,), 1, 1, None),
    (300, (40, 300), 2, 5, 0),
    (500, (6, 7, 8), 3, 9, 60),
    (900, (4, 5, 6, 7), 2, 30, 200),
]


def attention(generator: torch.Generator, shape: tuple[int, ...]) -> float:
    """The largest difference."""
    prompts, beams, positions, groups, repeats, width, codes, interleaved = shape
    random = partial(torch.randn, generator=generator)
    kv = random((prompts, positions, 2, groups, width))
    k, v = kv.unbind(2) if interleaved else (part.contiguous() for part in kv.unbind(2))
    suffix = (prompts, beams, codes, groups, width)
    cache = LayerCache(prompt_k=k, prompt_v=v, suffix_k=random(suffix), suffix_v=random(suffix))
    lengths = torch.randint(positions, (prompts, 1), generator=generator)
    bias = torch.zeros(prompts, positions).masked_fill(torch.arange(positions) > lengths, -torch.inf)[:, None]
    q = 3 * random((prompts, beams, groups * repeats, width))
    return (attend(cache, q, bias) - cache.attend(q, bias)).abs().max().item()


def expansion(
    generator: torch.Generator, items: int, sizes: tuple[int, ...], prompts: int, beams: int, excluded: int | None
) -> list[bool]:
    """Whether the kernel gives the very beams, edges and scores, level by level; the last beam of each is dead."""
    codes = torch.stack([torch.randint(size, (items,), generator=generator) for size in sizes], dim=1)
    trie = Trie.build(semantic_ids([tuple(row) for row in codes.tolist()], sizes))
    held, filters = HeldTrie(trie, "cpu"), HeldFilters(prompts, items + 9, "cpu")
    allowed = torch.rand(prompts, items, generator=generator) < 0.4
    slots = torch.tensor(filters.slots([None, *prefix_rank(allowed)[1:]]))
    own = torch.full((prompts, excluded or 0), PADDING, dtype=torch.int32)
    for prompt in range(prompts if excluded else 0):
        kept = torch.arange(items) if prompt == 0 else allowed[prompt].nonzero()[:, 0]
        drawn = torch.randperm(len(kept), generator=generator)[: excluded - 7]  # the rest is padding
        own[prompt, : len(drawn)] = kept[drawn].sort().values
    same = []
    for level, (size, most) in enumerate(zip(sizes, most_candidates(trie, beams), strict=True)):
        nodes = len(trie.first_edges[level]) - 1
        width = min(beams, nodes)
        node = torch.stack([torch.randperm(nodes, generator=generator)[:width] for _ in range(prompts)]).int()
        score = torch.randn(prompts, width, generator=generator)
        score[:, width - (width > 1) :] = -torch.inf
        logits = torch.randn(prompts, width, size, generator=generator)
        given: tuple[int, Tensor, Tensor, Tensor, int] = (level, node, score, logits, most + 3)
        filtered = None if excluded is None else filters
        before = None if excluded is None else partial(filters.before, slots, own)
        expected = children(held.trie, before, *given)
        result = fused_children(held, filtered, slots, own, *given)
        same.append(all(torch.equal(*pair) for pair in zip(expected, result, strict=True)))
    return same


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    distances = [attention(generator, shape) for shape in ATTENTION]
    print(json.dumps({"attention": distances, "children": [expansion(generator, *shape) for shape in CHILDREN]}))


if __name__ == "__main__":
    main()
