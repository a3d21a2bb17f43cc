"""Predicted bytes are those of the real objects, exactly."""

from typing import Any

import numpy as np
import pytest
import torch

from nextpage.capacity import memory
from nextpage.decoding.engine import Prompts
from nextpage.decoding.engines.eager import EagerEngine
from nextpage.decoding.filters import Filters, ItemFilter
from nextpage.decoding.trie import Trie
from nextpage.models.decoder import CausalDecoder, DecoderConfig
from nextpage.tokenizers.semantic_ids import SemanticIds
from nextpage.tokenizers.vocabulary import Vocabulary

SIZES = (16, 32, 8)


def config(**changes: Any) -> DecoderConfig:
    vocabulary = Vocabulary(SIZES)
    shape: dict[str, Any] = {"width": 32, "layers": 3, "heads": 4, "kv_heads": 2, "head_width": 6, "mlp_width": 40}
    ranges = tuple(vocabulary.level_range(level) for level in range(len(SIZES)))
    return DecoderConfig(vocabulary_size=vocabulary.size, level_ranges=ranges, **{**shape, **changes})


@pytest.mark.parametrize(
    "changes", [{}, {"tied_head": False}, {"token_merger": False}, {"kv_heads": 4, "layers": 1, "head_width": 8}]
)
def test_weights_are_those_of_the_decoder(changes: dict[str, Any]) -> None:
    decoder = CausalDecoder(config(**changes))
    assert memory.weights(decoder.config) == sum(weight.numel() for weight in decoder.parameters())
    assert memory.layer_weights(decoder.config) == sum(weight.numel() for weight in decoder.layers[0].parameters())


@pytest.mark.parametrize(("dtype", "value_bytes"), [(torch.float32, memory.FP32), (torch.bfloat16, memory.BF16)])
def test_keys_and_values_are_those_of_the_engines_cache(dtype: torch.dtype, value_bytes: int) -> None:
    decoder, batch, items, beams = CausalDecoder(config()), 2, 5, 7
    engine = EagerEngine(decoder, dtype=dtype)
    prompts = Prompts(tokens=torch.full((batch, items, 3), 4), lengths=torch.tensor([3, 5]))
    state = engine.prefill(prompts).state
    for level in range(1, len(SIZES)):
        parents = torch.zeros(batch, beams, dtype=torch.int64)
        state = engine.step(state, parents, parents, level).state
    kept = [(layer.prompt_k, layer.prompt_v) for layer in state.layers]
    own = [(layer.suffix_k, layer.suffix_v) for layer in state.layers]
    prompt_bytes, suffix_bytes = (sum(k.nbytes + v.nbytes for k, v in parts) for parts in (kept, own))
    assert memory.keys_and_values(decoder.config, batch * (items + 1), value_bytes) == prompt_bytes
    assert memory.keys_and_values(decoder.config, batch * beams * (len(SIZES) - 1), value_bytes) == suffix_bytes


@pytest.mark.parametrize(("items", "sizes"), [(500, SIZES), (1, SIZES), (4000, (8, 40_000)), (3000, (4, 4, 4, 100))])
def test_a_trie_has_the_bytes_of_its_nodes_and_never_more_than_foretold(items: int, sizes: tuple[int, ...]) -> None:
    draw = np.random.default_rng(0)
    codes = np.stack([draw.integers(0, size, items) for size in sizes], axis=1)
    built = Trie.build(SemanticIds.sorted(np.array([f"i{n}" for n in range(items)], dtype=object), codes, sizes))
    nodes = (1, *(len(array) for array in built.edge_codes))
    assert memory.trie(nodes, sizes) == built.nbytes
    most = memory.nodes_at_most(items, sizes)
    assert most[-1] == items
    assert built.nbytes <= memory.trie(most, sizes) <= 8 * items + 4 * 2**20


def test_filters_are_the_prefix_sums_of_each_set() -> None:
    sets = [ItemFilter.of(np.ones(700, dtype=bool)) for _ in range(3)]
    held = Filters.of([*sets, sets[0]])  # requests that ask for one set share it
    assert held is not None
    distinct = {rank.data_ptr(): rank for rank in held.ranks if rank is not None}
    assert memory.filters(700, 3) == sum(rank.nbytes for rank in distinct.values())


def test_item_tokens_are_the_vocabularys() -> None:
    codes = np.zeros((90, 3), dtype=np.int32)
    assert memory.item_tokens(90, 3) == Vocabulary(SIZES).tokens(codes).nbytes
