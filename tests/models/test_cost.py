"""What a search costs, against operations that torch counts and tensors that stand in memory."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nextpage.decoding.engines.eager import EagerEngine
from nextpage.models.cost import Chip, Cost, prefill_cost, roofline_share, search_cost, step_cost
from nextpage.models.decoder import CausalDecoder, DecoderConfig
from nextpage.tokenizers.vocabulary import Vocabulary
from tests.decoding.small import random_prompts

SIZES = (7, 5, 9)
BATCH, LENGTH, BEAMS = 2, 11, 6


def model(*, kv_heads: int, layers: int) -> CausalDecoder:
    vocabulary = Vocabulary(SIZES)
    ranges = tuple(vocabulary.level_range(level) for level in range(len(SIZES)))
    shape = {"width": 24, "layers": layers, "heads": 4, "kv_heads": kv_heads, "head_width": 8, "mlp_width": 40}
    return CausalDecoder(DecoderConfig(vocabulary_size=vocabulary.size, level_ranges=ranges, **shape))


@pytest.mark.parametrize(("kv_heads", "layers"), [(1, 1), (2, 3), (4, 2)])
def test_flops_are_those_that_torch_counts(kv_heads: int, layers: int) -> None:
    decoder = model(kv_heads=kv_heads, layers=layers)
    engine, config = EagerEngine(decoder), decoder.config
    prompts = random_prompts(SIZES, [LENGTH - 1, LENGTH - 3])
    positions = prompts.tokens.shape[1] + 1
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        frontier = engine.prefill(prompts)
    # This backend multiplies the pairs too that the causal mask then hides.
    hidden = (layers - 1) * BATCH * positions * (positions - 1) / 2
    unneeded = 4 * config.heads * config.head_width * hidden
    assert prefill_cost(config, batch=BATCH, positions=positions).flops + unneeded == counter.get_total_flops()
    parents = torch.zeros(BATCH, BEAMS, dtype=torch.int64)
    for level in (1, 2):
        with FlopCounterMode(display=False) as counter:
            frontier = engine.step(frontier.state, parents, parents, level)
        cost = step_cost(config, batch=BATCH, positions=positions, beams=BEAMS, level=level)
        # To torch, a weighted sum over one code alone is no matrix product.
        alone = 2 * config.heads * config.head_width * layers * BATCH * BEAMS if level == 1 else 0
        assert cost.flops == counter.get_total_flops() + alone


@pytest.mark.parametrize("kv_heads", [1, 4])
def test_bytes_are_those_of_the_weights_and_caches(kv_heads: int) -> None:
    decoder = model(kv_heads=kv_heads, layers=3)
    engine, config = EagerEngine(decoder), decoder.config
    assert decoder.merger is not None
    body = sum(weight.nbytes for part in (decoder.layers, decoder.norm) for weight in part.parameters())
    merger = sum(weight.nbytes for weight in decoder.merger.parameters())
    heads = [decoder.output_weight[slice(*bounds)].nbytes for bounds in config.level_ranges]
    prompts = random_prompts(SIZES, [LENGTH - 1, LENGTH - 3])
    frontier = engine.prefill(prompts)
    positions = prompts.tokens.shape[1] + 1
    prompt_bytes = sum(layer.prompt_k.nbytes + layer.prompt_v.nbytes for layer in frontier.state.layers)
    cost = prefill_cost(config, batch=BATCH, positions=positions, element=4)
    assert cost.bytes == body + merger + heads[0] + prompt_bytes
    parents = torch.zeros(BATCH, BEAMS, dtype=torch.int64)
    for level in (1, 2):
        frontier = engine.step(frontier.state, parents, parents, level)
        suffix = sum(layer.suffix_k.nbytes + layer.suffix_v.nbytes for layer in frontier.state.layers)
        cost = step_cost(config, batch=BATCH, positions=positions, beams=BEAMS, level=level, element=4)
        assert cost.bytes == body + heads[level] + prompt_bytes + suffix


def test_the_least_time_is_bound_by_what_is_scarcer_in_each_pass() -> None:
    chip = Chip(flops=100.0, bandwidth=10.0)
    passes = (Cost(flops=500.0, bytes=10.0), Cost(flops=100.0, bytes=30.0))
    assert [one.seconds(chip) for one in passes] == [5.0, 3.0]
    assert roofline_share(passes, chip, 16.0) == 0.5


def test_a_search_is_its_prefill_and_a_step_for_every_level_after_the_first() -> None:
    config = model(kv_heads=2, layers=2).config
    passes = search_cost(config, batch=1, positions=12, beams=4)
    assert passes[0] == prefill_cost(config, batch=1, positions=12)
    assert passes[1:] == tuple(step_cost(config, batch=1, positions=12, beams=4, level=level) for level in (1, 2))
