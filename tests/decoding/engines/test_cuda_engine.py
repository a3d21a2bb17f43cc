"""The GPU's engine as far as a CPU runs it, in bf16 and FP8. The Triton kernel has tests of its own."""

import pytest
import torch
from torch import nn

from nextpage.decoding.beam_search import generate
from nextpage.decoding.engines.cuda_engine import CudaEngine
from nextpage.decoding.engines.eager import EagerEngine
from nextpage.decoding.engines.fp8 import Fp8Linear
from nextpage.models.decoder import CausalDecoder, DecoderConfig
from nextpage.tokenizers.vocabulary import Vocabulary
from tests.decoding.small import random_prompts

SIZES = (5, 4, 3)


def decoder() -> CausalDecoder:
    """Wide enough for FP8."""
    vocabulary = Vocabulary(SIZES)
    torch.manual_seed(0)
    shape = {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "head_width": 16, "mlp_width": 48}
    ranges = tuple(vocabulary.level_range(level) for level in range(len(SIZES)))
    model = CausalDecoder(DecoderConfig(vocabulary_size=vocabulary.size, level_ranges=ranges, **shape))
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.2)
    return model


def test_an_fp8_layer_is_the_linear_layer_to_fp8s_precision() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(64, 32, bias=False).bfloat16()
    x = torch.randn(3, 5, 64).bfloat16() * torch.logspace(-3, 3, 5)[:, None].bfloat16()  # rows of very different sizes
    exact, rounded = linear(x), Fp8Linear(linear)(x)
    error = (exact - rounded).float().norm(dim=-1) / exact.float().norm(dim=-1)
    assert rounded.shape == exact.shape
    assert 0.001 < error.max() < 0.08


def test_a_layer_of_zeros_stays_zero_in_fp8() -> None:
    linear = nn.Linear(16, 16, bias=False).bfloat16()
    nn.init.zeros_(linear.weight)
    assert Fp8Linear(linear)(torch.zeros(1, 16).bfloat16()).tolist() == [[0.0] * 16]


def test_a_layer_that_fp8_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="a layer of 24 × 32 cannot run in FP8"):
        Fp8Linear(nn.Linear(24, 32))


@pytest.mark.parametrize(("fp8", "bound"), [(False, 1e-6), (True, 0.5)])
def test_its_probabilities_are_those_of_the_eager_engine(fp8: bool, bound: float) -> None:
    model, prompts = decoder(), random_prompts(SIZES, [8, 5])
    engine = CudaEngine(model, fp8=fp8)
    expected = generate(EagerEngine(model, dtype=torch.bfloat16), prompts, beam_width=60)
    result = generate(engine, prompts, beam_width=60)
    assert result.log_prob.exp().sum(1).tolist() == pytest.approx([1, 1], abs=1e-4)
    assert (result.log_prob - expected.log_prob).abs().max() < bound
    linears = [part for part in engine.decoder.layers.modules() if isinstance(part, nn.Linear | Fp8Linear)]
    assert all(isinstance(part, Fp8Linear) == fp8 for part in linears)
    assert not any(isinstance(part, Fp8Linear) for part in model.modules())  # the given decoder is left as it was


def test_logits_of_a_device_with_mixed_products_have_the_shapes_and_dtype_of_the_contract() -> None:
    """On the meta device, which runs no arithmetic: CPUs have no product of bf16 into fp32."""
    engine = CudaEngine(decoder().to("meta"))
    hidden = torch.empty(2, 6, 32, dtype=torch.bfloat16, device="meta")
    logits = engine._logits(hidden, 1)
    assert (logits.shape, logits.dtype) == ((2, 6, 4), torch.float32)


def test_a_chip_without_fp8_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from nextpage.decoding.engines import cuda_engine

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A100")
    with pytest.raises(ValueError, match=r"A100 has no FP8, which begins with compute capability 8\.9"):
        cuda_engine._check_fp8(torch.device("cuda"))
