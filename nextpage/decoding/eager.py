"""The reference engine: plain torch over a `CausalDecoder`, with each prompt's keys and values held once.

A prompt ends with SEP, whose hidden state predicts the first code. All beams of a prompt read the same prompt keys and
values; a beam owns only those of its own codes, at most L - 1 of them, which follow it when beams are reordered. The
softmax runs over the scores of both parts together, so nothing is approximated.

Letters in names and comments: B prompts, T positions of the longest prompt and its SEP, W beams, D width, H heads,
G key-value heads, R = H / G, K width of a head, J codes of the suffix, L levels of a semantic ID.
"""

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nextpage.decoding.engine import Frontier, Prompts
from nextpage.models.decoder import CausalDecoder, DecoderLayer
from nextpage.tokenizers.vocabulary import SEP


@dataclass(frozen=True, kw_only=True)
class LayerCache:
    """Keys and values of one layer."""

    prompt_k: Tensor  # [B, T, G, K]
    prompt_v: Tensor  # [B, T, G, K]
    suffix_k: Tensor  # [B, W, J, G, K]
    suffix_v: Tensor  # [B, W, J, G, K]

    def grown(self, parents: Tensor, k: Tensor, v: Tensor) -> "LayerCache":
        """The cache of beams that come from `parents` [B, W] and add k and v [B, W, G, K]."""
        prompt = torch.arange(len(parents), device=parents.device)[:, None]
        return LayerCache(
            prompt_k=self.prompt_k,
            prompt_v=self.prompt_v,
            suffix_k=torch.cat([self.suffix_k[prompt, parents], k[:, :, None]], dim=2),
            suffix_v=torch.cat([self.suffix_v[prompt, parents], v[:, :, None]], dim=2),
        )

    def attend(self, q: Tensor, bias: Tensor) -> Tensor:
        """Each beam attends to its prompt and to its own suffix. q [B, W, H, K], bias [B, 1, T] → [B, W, H, K]"""
        (batch, beams, heads, width), (longest, groups) = q.shape, self.prompt_k.shape[1:3]
        repeats, suffix = heads // groups, self.suffix_k.shape[2]
        q = (q * width**-0.5).view(batch, beams, groups, repeats, width)
        k, v = (x.transpose(1, 2).flatten(0, 1) for x in (self.prompt_k, self.prompt_v))  # [B·G, T, K]
        q_prompt = q.permute(0, 2, 3, 1, 4).reshape(batch * groups, repeats * beams, width)
        prompt_scores = torch.baddbmm(bias.repeat_interleave(groups, dim=0), q_prompt, k.transpose(1, 2))
        suffix_scores = torch.einsum("bwgrk,bwjgk->bgrwj", q, self.suffix_k)
        scores = torch.cat([prompt_scores, suffix_scores.reshape(*prompt_scores.shape[:2], suffix)], dim=-1)
        weights = scores.softmax(dim=-1)  # [B·G, R·W, T + J]
        attended = torch.bmm(weights[..., :longest], v).view(batch, groups, repeats, beams, width)
        suffix_weights = weights[..., longest:].reshape(batch, groups, repeats, beams, suffix)
        attended = attended + torch.einsum("bgrwj,bwjgk->bgrwk", suffix_weights, self.suffix_v)
        return attended.permute(0, 3, 1, 2, 4).reshape(batch, beams, heads, width)


@dataclass(frozen=True, kw_only=True)
class Cache:
    """All that the next step needs."""

    layers: tuple[LayerCache, ...]
    bias: Tensor  # [B, 1, T]: 0 up to the prompt's SEP, -inf after it
    lengths: Tensor  # int64 [B], SEP not counted: SEP's own position


class EagerEngine:
    """Runs a decoder eagerly on the decoder's device.

    The decoder itself is used where `dtype` is its own, so that later changes of its weights are seen; else a copy.
    The output head always runs in fp32: bf16 logits have too few digits to rank by.
    """

    def __init__(self, decoder: CausalDecoder, *, dtype: torch.dtype | None = None) -> None:
        own = decoder.embed_tokens.weight.dtype
        self.decoder = decoder if dtype in (None, own) else copy.deepcopy(decoder).to(dtype)
        self.sizes = tuple(stop - start for start, stop in decoder.config.level_ranges)

    @torch.inference_mode()
    def prefill(self, prompts: Prompts) -> Frontier[Cache]:
        """All layers over the prompts; the last layer is finished only for SEP, which alone is read."""
        x, lengths = self._embed(prompts), prompts.lengths
        prompt, place = torch.arange(len(x), device=x.device), torch.arange(x.shape[1], device=x.device)
        bias = torch.zeros_like(x[..., 0]).masked_fill(place > lengths[:, None], -torch.inf)[:, None]
        layers = []
        for index, layer in enumerate(self._layers()):
            q, k, v = layer.attention_inputs(x, place)
            empty = k.new_empty(len(k), 1, 0, *k.shape[2:])
            cache = LayerCache(prompt_k=k, prompt_v=v, suffix_k=empty, suffix_v=empty)
            layers.append(cache)
            if index < self.decoder.config.layers - 1:
                x = layer.finish(x, _causal(q, k, v))
            else:
                x = layer.finish(x[prompt, lengths][:, None], cache.attend(q[prompt, lengths][:, None], bias))
        return Frontier(logits=self._logits(x, 0), state=Cache(layers=tuple(layers), bias=bias, lengths=lengths))

    @torch.inference_mode()
    def step(self, state: Cache, parents: Tensor, codes: Tensor, level: int) -> Frontier[Cache]:
        """The engine's contract; see `nextpage/decoding/engine.py`."""
        tokens = codes.long() + self.decoder.config.level_ranges[level - 1][0]
        x = self.decoder.embed(tokens)
        position = (state.lengths + level)[:, None]
        layers = []
        for layer, cache in zip(self._layers(), state.layers, strict=True):
            q, k, v = layer.attention_inputs(x, position)
            cache = cache.grown(parents, k, v)
            layers.append(cache)
            x = layer.finish(x, cache.attend(q, state.bias))
        return Frontier(
            logits=self._logits(x, level),
            state=Cache(layers=tuple(layers), bias=state.bias, lengths=state.lengths),
        )

    def _embed(self, prompts: Prompts) -> Tensor:
        """Prompts and the SEP that ends each → [B, T, D]"""
        embed = self.decoder.embed_merged if prompts.tokens.ndim == 3 else self.decoder.embed
        x, lengths = F.pad(embed(prompts.tokens), (0, 0, 0, 1)), prompts.lengths
        x[torch.arange(len(x), device=x.device), lengths] = self.decoder.embed(torch.full_like(lengths, SEP))
        return x

    def _logits(self, x: Tensor, level: int) -> Tensor:
        start, stop = self.decoder.config.level_ranges[level]
        return F.linear(self.decoder.norm(x).float(), self.decoder.output_weight[start:stop].float())

    def _layers(self) -> list[DecoderLayer]:
        return [layer for layer in self.decoder.layers if isinstance(layer, DecoderLayer)]


def _causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q [B, T, H, K], k and v [B, T, G, K] → [B, T, H, K]. Padding stands last, so no token before it sees it."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return attended.transpose(1, 2)
