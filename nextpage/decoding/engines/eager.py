"""The reference engine: plain torch over a `CausalDecoder`, with each prompt's keys and values held once.

A prompt ends with SEP, whose hidden state predicts the first code. All beams of a prompt read the same prompt keys and
values; a beam owns only those of its own codes, at most L - 1 of them, which follow it when beams are reordered. The
softmax runs over the scores of both parts together, so nothing is approximated.

Letters in names and comments: B prompts, T positions of the longest prompt and its SEP, W beams, D width, H heads,
G key-value heads, R = H / G, K width of a head, J codes of the suffix, L levels of a semantic ID, N positions to run.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

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

    @staticmethod
    def of_prompts(k: Tensor, v: Tensor) -> "LayerCache":
        """Of prompts [B, T, G, K] whose beams have no codes yet."""
        empty = k.new_empty(len(k), 1, 0, *k.shape[2:])
        return LayerCache(prompt_k=k, prompt_v=v, suffix_k=empty, suffix_v=empty)

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


@dataclass(frozen=True, kw_only=True)
class Past:
    """What the model made of the first P positions of one prompt, apart from any batch. Positions count from the
    prompt's first, and none sees a later one: so it holds for whatever prompt begins like this."""

    layers: tuple[Tensor, ...]  # of each layer, keys and values [P, 2, G, K]

    def __len__(self) -> int:
        """P"""
        return len(self.layers[0])

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in self.layers)

    def first(self, positions: int) -> "Past":
        return Past(layers=tuple(layer[:positions] for layer in self.layers))


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
        lengths, longest = prompts.lengths, prompts.tokens.shape[1] + 1
        prompt, place = torch.arange(len(lengths), device=lengths.device), torch.arange(longest, device=lengths.device)
        x = self._embed(prompts, prompt[:, None], place)
        bias = _bias(lengths, x.shape[1], x.dtype)
        layers = []
        for index, layer in enumerate(self._layers()):
            q, k, v = layer.attention_inputs(x, place)
            cache = LayerCache.of_prompts(k, v)
            layers.append(cache)
            if index < self.decoder.config.layers - 1:
                x = layer.finish(x, _causal(q, k, v))
            else:
                x = layer.finish(x[prompt, lengths][:, None], self._attend(cache, q[prompt, lengths][:, None], bias))
        return Frontier(logits=self._logits(x, 0), state=Cache(layers=tuple(layers), bias=bias, lengths=lengths))

    @torch.inference_mode()
    def extend(self, prompts: Prompts, pasts: Sequence[Past | None]) -> tuple[Frontier[Cache], list[Past]]:
        """As `prefill`, where `pasts[b]` holds the first positions of prompt b: only those behind them are run, and
        SEP, which stands further back in a longer prompt. Gives the past of each whole prompt too.

        Linear layers run over flat positions, so that a prompt that is new costs those beside it nothing.
        """
        starts = torch.tensor([0 if past is None else len(past) for past in pasts], device=prompts.lengths.device)
        counts = prompts.lengths + 1 - starts
        new, ends = counts.tolist(), counts.cumsum(0)
        prompt_N = torch.repeat_interleave(counts)
        place_N = torch.arange(len(prompt_N), device=starts.device) + (starts + counts - ends)[prompt_N]
        x = self._embed(prompts, prompt_N, place_N)
        bias = _bias(prompts.lengths, int(prompts.lengths.max()) + 1, x.dtype)
        layers, wholes = [], []
        for index, layer in enumerate(self._layers()):
            q, k, v = layer.attention_inputs(x, place_N)
            kv = torch.stack([k, v], dim=1).split_with_sizes(new)
            known = [[] if past is None else [past.layers[index]] for past in pasts]
            whole = [torch.cat([*before, behind]) for before, behind in zip(known, kv, strict=True)]  # [T, 2, G, K]
            wholes.append(whole)
            layers.append(LayerCache.of_prompts(*pad_sequence(whole, batch_first=True).unbind(2)))
            if index < self.decoder.config.layers - 1:
                pairs = zip(q.split_with_sizes(new), whole, strict=True)
                x = layer.finish(x, torch.cat([_causal(q[None], *kv[None].unbind(2))[0] for q, kv in pairs]))
            else:
                x = layer.finish(x[ends - 1][:, None], self._attend(layers[-1], q[ends - 1][:, None], bias))
        state = Cache(layers=tuple(layers), bias=bias, lengths=prompts.lengths)
        passed_on = [Past(layers=tuple(kv[:-1] for kv in whole)) for whole in zip(*wholes, strict=True)]
        return Frontier(logits=self._logits(x, 0), state=state), passed_on

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
            x = layer.finish(x, self._attend(cache, q, state.bias))
        return Frontier(
            logits=self._logits(x, level),
            state=Cache(layers=tuple(layers), bias=state.bias, lengths=state.lengths),
        )

    def _embed(self, prompts: Prompts, prompt: Tensor, place: Tensor) -> Tensor:
        """What stands at these places of these prompts, each ended by SEP. int [...] → [..., D]"""
        merged = prompts.tokens.ndim == 3
        tokens = F.pad(prompts.tokens, (0, 0, 0, 1) if merged else (0, 1))[prompt, place]
        x = self.decoder.embed_merged(tokens) if merged else self.decoder.embed(tokens)
        sep = self.decoder.embed_tokens.weight[SEP]
        return torch.where((place == prompts.lengths[prompt])[..., None], sep, x)

    def _attend(self, cache: LayerCache, q: Tensor, bias: Tensor) -> Tensor:
        return cache.attend(q, bias)

    def _logits(self, x: Tensor, level: int) -> Tensor:
        start, stop = self.decoder.config.level_ranges[level]
        return F.linear(self.decoder.norm(x).float(), self.decoder.output_weight[start:stop].float())

    def _layers(self) -> list[DecoderLayer]:
        return [layer for layer in self.decoder.layers if isinstance(layer, DecoderLayer)]


def _bias(lengths: Tensor, longest: int, dtype: torch.dtype) -> Tensor:
    """0 up to each prompt's SEP, -inf after it: [B, 1, T]"""
    place = torch.arange(longest, device=lengths.device)
    bias = torch.zeros(len(lengths), longest, dtype=dtype, device=lengths.device)
    return bias.masked_fill(place > lengths[:, None], -torch.inf)[:, None]


def _causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The last N of T positions attend to those up to their own: q [B, N, H, K], k and v [B, T, G, K] → [B, N, H, K].
    Padding stands last, so no token before it sees it."""
    new, positions = q.shape[1], k.shape[1]
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    shape, known = (new, positions), positions - new
    mask = torch.ones(shape, dtype=torch.bool, device=q.device).tril(known) if known else None
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True)
    return attended.transpose(1, 2)
