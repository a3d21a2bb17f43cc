"""A causal decoder whose weights bear Qwen2's names, over tokens that carry their own positions and masks.

Letters in names and comments: N tokens, D width, H heads, G key-value heads, K width of a head, L levels of a
semantic ID, V tokens of the vocabulary.

Every function is over tokens `[..., D]`: training passes flat `[N, D]` rows without padding, decoding passes
`[batch, beams, D]`. What a token may see is the caller's: `attention_inputs` gives queries, keys and values, and
`finish` takes what was attended. So training and generation run the same layer and differ in the mask alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(q[N, H, K], k[N, G, K], v[N, G, K]) → attended [N, H, K]"""


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """The shape of a decoder. The first two follow from the tokenizer and the third from the layout; a recipe sets the
    others."""

    vocabulary_size: int = 0
    level_ranges: tuple[tuple[int, int], ...] = ()  # first and last + 1 token of each level of a semantic ID
    token_merger: bool = True
    width: int = 256
    layers: int = 2
    heads: int = 4
    kv_heads: int = 4
    head_width: int = 64
    mlp_width: int = 768
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-6
    tied_head: bool = True

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} heads cannot share {self.kv_heads} key-value heads evenly")
        if self.head_width % 2:
            raise ValueError(f"head_width {self.head_width} is odd: rotary embedding turns pairs")


def rotate(x: Tensor, position: Tensor, theta: float) -> Tensor:
    """Rotary position embedding (arXiv 2104.09864), half-split as in Qwen2. x [..., heads, K], position [...]."""
    half = x.shape[-1] // 2
    frequency = theta ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angle = position[..., None, None].float() * frequency  # [..., 1, K/2]
    cosine, sine = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


class RMSNorm(nn.Module):
    """arXiv 1910.07467, the mean square in fp32."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), (x.shape[-1],), self.weight.float(), self.epsilon).to(x.dtype)


class Attention(nn.Module):
    """The projections of grouped-query attention; the mask and the softmax are the caller's."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.q_proj = nn.Linear(config.width, config.heads * config.head_width)
        self.k_proj = nn.Linear(config.width, config.kv_heads * config.head_width)
        self.v_proj = nn.Linear(config.width, config.kv_heads * config.head_width)
        self.o_proj = nn.Linear(config.heads * config.head_width, config.width, bias=False)

    def project(self, x: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shape, config = x.shape[:-1], self.config
        q = self.q_proj(x).view(*shape, config.heads, config.head_width)
        k = self.k_proj(x).view(*shape, config.kv_heads, config.head_width)
        v = self.v_proj(x).view(*shape, config.kv_heads, config.head_width)
        return rotate(q, position, config.rope_theta), rotate(k, position, config.rope_theta), v


class SwiGLU(nn.Module):
    """arXiv 2002.05202."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.mlp_width, bias=False)
        self.up_proj = nn.Linear(config.width, config.mlp_width, bias=False)
        self.down_proj = nn.Linear(config.mlp_width, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        down: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return down


class DecoderLayer(nn.Module):
    """Pre-norm attention and MLP, cut where the mask comes in."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.width, config.norm_epsilon)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.width, config.norm_epsilon)
        self.mlp = SwiGLU(config)

    def attention_inputs(self, x: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [..., D], position int [...] → q [..., H, K], k [..., G, K], v [..., G, K], rotated by position."""
        inputs: tuple[Tensor, Tensor, Tensor] = self.self_attn.project(self.input_layernorm(x), position)
        return inputs

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Residual, output projection and MLP. x [..., D], attended [..., H, K] → [..., D]."""
        x = x + self.self_attn.o_proj(attended.flatten(-2))
        finished: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return finished


class TokenMerger(nn.Module):
    """GenRec Eq 5: an item's L code embeddings become one vector, h = Linear(Concat(e(s1), …, e(sL)))."""

    def __init__(self, levels: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(levels * width, width)

    def forward(self, embedded: Tensor) -> Tensor:
        """[..., L, D] → [..., D]"""
        merged: Tensor = self.linear(embedded.flatten(-2))
        return merged


class CausalDecoder(nn.Module):
    """Tokens to hidden states to next-token logits; the output head is tied to the token embedding by default."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocabulary_size, config.width)
        levels = len(config.level_ranges)
        self.merger = TokenMerger(levels, config.width) if levels and config.token_merger else None
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, config.norm_epsilon)
        self.lm_head = None if config.tied_head else nn.Linear(config.width, config.vocabulary_size, bias=False)
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def embed(self, tokens: Tensor) -> Tensor:
        """Plain tokens. tokens int [...] → [..., D]"""
        embedded: Tensor = self.embed_tokens(tokens)
        return embedded

    def embed_merged(self, tokens: Tensor) -> Tensor:
        """Whole items, one vector each. tokens int [..., L] → [..., D]"""
        if self.merger is None:
            raise ValueError("this decoder has no token merger: was it made for a layout that does not merge?")
        merged: Tensor = self.merger(self.embed_tokens(tokens))
        return merged

    def forward(self, x: Tensor, position: Tensor, attend: Attend) -> Tensor:
        """Embedded tokens to normed hidden states. x [N, D], position int [N] → [N, D]"""
        for layer in self.layers:
            assert isinstance(layer, DecoderLayer)
            x = layer.finish(x, attend(*layer.attention_inputs(x, position)))
        hidden: Tensor = self.norm(x)
        return hidden

    @property
    def output_weight(self) -> Tensor:
        """[V, D]"""
        return self.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] → [..., V]"""
        return F.linear(hidden, self.output_weight)

    def code_logits(self, hidden: Tensor, level: int) -> Tensor:
        """Over the codes of one level only. [..., D] → [..., size of the level]"""
        start, stop = self.config.level_ranges[level]
        return F.linear(hidden, self.output_weight[start:stop])

    def flops_per_token(self, keys: float) -> float:
        """Forward FLOPs of a token that sees `keys` keys: 2 a weight, and 4·K a head and key (arXiv 2204.02311, B)."""
        config = self.config
        body = sum(weight.numel() for weight in self.layers.parameters())
        return 2.0 * (body + self.output_weight.numel()) + 4.0 * config.layers * config.heads * config.head_width * keys
