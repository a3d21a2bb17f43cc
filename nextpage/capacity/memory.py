"""Bytes of what a server holds, from shapes alone; `tests/capacity/test_memory.py` holds them to the objects' own.

Letters in names and comments: B prompts, T positions of a prompt and its SEP, W beams, L levels, I items, S codes of a
level, D width, H heads, G key-value heads, K width of a head.
"""

import math

from nextpage.models.decoder import DecoderConfig

BF16, FP32, INT32, INT64 = 2, 4, 4, 8
PROCESS = 535 * 2**20
"""Of a server with no items: Python, torch, KServe (`python benchmarks/capacity.py`)."""
ITEM = 430
"""Of an item's name, text and place beside its tokens (`python benchmarks/capacity.py`)."""


def layer_weights(config: DecoderConfig) -> int:
    """Number of one layer's weights: projections and their biases, MLP, two norms."""
    queries, keys = config.heads * config.head_width, config.kv_heads * config.head_width
    attention = (config.width + 1) * (queries + 2 * keys) + queries * config.width
    return attention + 3 * config.width * config.mlp_width + 2 * config.width


def weights(config: DecoderConfig) -> int:
    """Number of a decoder's weights, the embedding, merger and head included."""
    levels, width = len(config.level_ranges), config.width
    merger = (levels * width + 1) * width if levels and config.token_merger else 0
    tables = 1 if config.tied_head else 2
    return tables * config.vocabulary_size * width + merger + config.layers * layer_weights(config) + width


def keys_and_values(config: DecoderConfig, positions: int, value_bytes: int = BF16) -> int:
    """Keys and values of so many positions, over all layers: of a batch's prompts B·T, of its beams B·W·(L − 1)."""
    return 2 * config.layers * positions * config.kv_heads * config.head_width * value_bytes


def nodes_at_most(items: int, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Nodes of each level of a trie, level 0 its root, the last its items: no level has more than its codes allow."""
    return (*(min(items, math.prod(sizes[:level])) for level in range(len(sizes))), items)


def trie(nodes: tuple[int, ...], sizes: tuple[int, ...]) -> int:
    """`Trie.nbytes`: a code for each node below the root, a first edge for each above the items and one more."""
    codes = sum(count * (2 if size <= 1 << 15 else 4) for count, size in zip(nodes[1:], sizes, strict=True))
    return codes + sum((count + 1) * INT32 for count in nodes[:-1])


def filters(items: int, sets: int) -> int:
    """The prefix sums int32 [I + 1] of so many sets of items; what a request alone must not get is next to nothing."""
    return sets * (items + 1) * INT32


def activations(config: DecoderConfig, positions: int, value_bytes: int = BF16) -> int:
    """An estimate of what a prefill has in hand at its widest: a layer's input, gate and up."""
    return positions * (2 * config.width + 3 * config.mlp_width) * value_bytes


def item_tokens(items: int, levels: int) -> int:
    """The codes of every item as tokens int64 [I, L], of which prompts are made."""
    return items * levels * INT64


def host(items: int, levels: int) -> dict[str, int]:
    """What a server's process holds beside the model."""
    return {"process": PROCESS, "item table": item_tokens(items, levels) + ITEM * items}
