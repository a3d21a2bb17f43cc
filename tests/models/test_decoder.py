"""The decoder against Hugging Face's Qwen2, and its attention against the dense reference."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from nextpage.layouts.packed import Packed
from nextpage.layouts.pages import PagesConfig, lay_out
from nextpage.models.attention import branch_attention, dense_attention
from nextpage.models.decoder import CausalDecoder, DecoderConfig
from nextpage.models.qwen2 import initialise_from_qwen2, load_qwen2
from nextpage.objectives.next_token import embed_packed
from nextpage.training.__main__ import make_decoder
from nextpage.training.config import TrainingConfig
from tests.histories import VOCABULARY, random_item_tokens, random_sequences, small_decoder


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen2 with random weights, as transformers saves it, in two files."""
    config = Qwen2Config(
        vocab_size=97,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        intermediate_size=80,
        tie_word_embeddings=request.param,
        rope_theta=1_000_000.0,
    )
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(config)
    for name, weight in model.named_parameters():
        if name.endswith("bias") or "norm" in name:  # fresh ones are all zeros or ones, which would hide a slip
            torch.nn.init.normal_(weight, mean=0.5, std=0.2)
    folder = tmp_path_factory.mktemp("qwen2")
    model.save_pretrained(folder, max_shard_size="60KB")
    return folder


def _causal(tokens: int) -> Packed:
    nothing, count = torch.zeros(tokens, dtype=torch.long), torch.arange(tokens)
    return Packed(
        tokens=count[:, None],
        is_context=nothing.bool(),
        sequence=nothing,
        block=nothing,
        position=count,
        time=nothing,
        target=nothing,
        weight=nothing.float(),
        spans=(),
        bin_size=tokens,
    )


def test_qwen2_checkpoint_gives_the_logits_of_transformers(checkpoint: Path) -> None:
    tokens = torch.randint(0, 97, (31,), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = Qwen2ForCausalLM.from_pretrained(checkpoint)(tokens[None]).logits[0]
        decoder = load_qwen2(checkpoint)
        hidden = decoder(decoder.embed(tokens), torch.arange(31), dense_attention(_causal(31)))
    assert torch.allclose(decoder.logits(hidden), expected, atol=1e-5)


def test_a_recommender_takes_the_body_of_a_checkpoint_and_keeps_its_own_tokens(checkpoint: Path) -> None:
    shape = {"width": 48, "layers": 3, "heads": 6, "kv_heads": 2, "head_width": 8, "mlp_width": 80}
    decoder = small_decoder(**shape)
    tokens = decoder.embed_tokens.weight.clone()
    initialise_from_qwen2(decoder, checkpoint)
    source = load_qwen2(checkpoint)
    assert torch.equal(decoder.layers[2].mlp.up_proj.weight, source.layers[2].mlp.up_proj.weight)
    assert torch.equal(decoder.norm.weight, source.norm.weight)
    assert torch.equal(decoder.embed_tokens.weight, tokens)
    with pytest.raises(ValueError, match=r"mlp_width is 81, that of .* is 80"):
        initialise_from_qwen2(small_decoder(**shape | {"mlp_width": 81}), checkpoint)


def test_training_starts_from_a_checkpoint_that_the_recipe_names(checkpoint: Path) -> None:
    shape = DecoderConfig(width=48, layers=3, heads=6, kv_heads=2, head_width=8, mlp_width=80)
    decoder = make_decoder(shape, VOCABULARY, TrainingConfig(pretrained=str(checkpoint)))
    source = load_qwen2(checkpoint)
    assert torch.equal(decoder.layers[0].self_attn.q_proj.weight, source.layers[0].self_attn.q_proj.weight)
    assert decoder.embed_tokens.num_embeddings == VOCABULARY.size


def test_branch_attention_equals_the_dense_reference() -> None:
    for seed in range(4):
        packed = _packed(seed)
        decoder = small_decoder()
        with torch.no_grad():
            x = embed_packed(decoder, packed)
            fast = decoder(x, packed.position, branch_attention(packed))
            reference = decoder(x, packed.position, dense_attention(packed))
        assert torch.allclose(fast, reference, atol=1e-5)


def test_branch_attention_has_the_gradients_of_the_dense_reference() -> None:
    packed, gradients = _packed(5), []
    for attention in (branch_attention, dense_attention):
        decoder = small_decoder()
        decoder(embed_packed(decoder, packed), packed.position, attention(packed)).square().sum().backward()
        gradients.append([weight.grad for weight in decoder.parameters() if weight.grad is not None])
    for fast, reference in zip(*gradients, strict=True):
        assert torch.allclose(fast, reference, atol=1e-3, rtol=1e-4)


def test_flops_count_every_weight_of_the_layers_twice_and_the_attention_by_its_keys() -> None:
    decoder = CausalDecoder(
        DecoderConfig(vocabulary_size=10, width=8, layers=1, heads=2, kv_heads=1, head_width=4, mlp_width=6)
    )
    body = 2 * 8 + (8 * 8 + 8) + 2 * (8 * 4 + 4) + 8 * 8 + 3 * 8 * 6
    assert decoder.flops_per_token(keys=5) == 2 * (body + 10 * 8) + 4 * 2 * 4 * 5


def _packed(seed: int) -> Packed:
    sequences = random_sequences(4, seed=seed)
    draws = [np.random.default_rng((seed, row)) for row in range(len(sequences))]
    return lay_out(sequences, random_item_tokens(), PagesConfig(page_items=4, exposed_items=1), draws)
