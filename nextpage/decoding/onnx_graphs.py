"""A decoder as two ONNX graphs, prefill and step: what ONNX Runtime runs and what TensorRT builds plans from.

A prompt's keys and values are outputs of prefill and inputs of every step, one copy for all beams. A beam's own have a
slot for each code that it may still add, so that shapes are the same at every step; slots not yet filled are masked.
One step graph serves all levels: the level is an input, and so is its part of the output head, which on a GPU is a view
of the embedding table and stays in full precision where the graph is quantised. Both graphs hold plain operators of
opset 18 only, and no dimension of theirs is ever 0.

| graph | input | |
|---|---|---|
| both | `tokens` | int64 [B, P, L], or [B, P] without a token merger; in step [B, W]: the tokens of the codes |
| both | `lengths` | int64 [B]: positions of each prompt before its SEP; at most P - 1 |
| both | `head` | float32 [S, D]: rows of the output head for the level's codes |
| step | `parents` | int64 [B, W]: places among the V beams before |
| step | `level` | int64 []: of the codes to come, 1 to L - 1 |
| step | `prompt_k.n`, `prompt_v.n` | [B, G, P, K], of each layer n |
| step | `suffix_k.n`, `suffix_v.n` | [B, V, G, J, K]; at level 1 V is 1 and the content is not read |

Out come `logits`, float32 [B, 1, S] and in step [B, W, S]; of prefill `prompt_k.n` and `prompt_v.n`; of step
`grown_k.n` and `grown_v.n` [B, W, G, J, K], the suffixes for the next one.

Letters in names and comments: B prompts, P positions (the longest prompt and its SEP), V beams before, W beams, L
levels, S codes of the level, D width, H heads, G key-value heads, R = H / G, K width of a head, J = L - 1 slots.
"""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.export import Dim

from nextpage.models.decoder import CausalDecoder, DecoderLayer
from nextpage.tokenizers.vocabulary import SEP

PREFILL, STEP, HEADS = "prefill.onnx", "step.onnx", "heads.safetensors"
OPSET = 18
MASKED = -1e9
"""Score of what is not seen: its share of the softmax is 0, and unlike -inf it cannot make NaN of two of them."""


def cache_names(kind: str, layers: int) -> list[str]:
    """Keys and values layer by layer; `kind` is prompt, suffix, or grown: the suffixes that a step gives back."""
    return [f"{kind}_{part}.{layer}" for layer in range(layers) for part in "kv"]


def export(decoder: CausalDecoder, folder: Path) -> None:
    """Write `prefill.onnx`, `step.onnx` (where there is more than one level) and the head of each level.

    The graphs compute in the decoder's dtype, and logits in fp32. Weights lie beside each graph, in `<graph>.data`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    decoder = decoder.eval()
    config, dtype = decoder.config, decoder.embed_tokens.weight.dtype
    heads = {
        f"head.{level}": decoder.output_weight[slice(*bounds)].detach().float().contiguous()
        for level, bounds in enumerate(config.level_ranges)
    }
    save_file(heads, folder / HEADS)
    levels, groups, width = len(config.level_ranges), config.kv_heads, config.head_width
    batch, positions, before, beams, codes = map(Dim, ("batch", "positions", "before", "beams", "codes"))
    prompt, suffix = cache_names("prompt", config.layers), cache_names("suffix", config.layers)
    lengths, head = torch.tensor([4, 2]), torch.zeros(7, config.width)
    _write(
        PrefillGraph(decoder),
        folder / PREFILL,
        (torch.zeros(2, 5, *() if decoder.merger is None else (levels,), dtype=torch.int64), lengths, head),
        ({0: batch, 1: positions}, {0: batch}, {0: codes}),
        ["tokens", "lengths", "head"],
        ["logits", *prompt],
    )
    if levels == 1:
        return
    of_beams = torch.zeros(2, 4, dtype=torch.int64)
    caches = [
        *(torch.zeros(2, groups, 5, width, dtype=dtype) for _ in prompt),
        *(torch.zeros(2, 3, groups, levels - 1, width, dtype=dtype) for _ in suffix),
    ]
    _write(
        StepGraph(decoder),
        folder / STEP,
        (of_beams, of_beams.clone(), lengths, torch.tensor(1), head, caches),
        (
            {0: batch, 1: beams},
            {0: batch, 1: beams},
            {0: batch},
            {},
            {0: codes},
            [{0: batch, 2: positions} for _ in prompt] + [{0: batch, 1: before} for _ in suffix],
        ),
        ["tokens", "parents", "lengths", "level", "head", *prompt, *suffix],
        ["logits", *cache_names("grown", config.layers)],
    )


class PrefillGraph(nn.Module):
    """`EagerEngine.prefill` as a pure function. The last layer makes keys and values of all, and goes on with SEP."""

    def __init__(self, decoder: CausalDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, tokens: Tensor, lengths: Tensor, head: Tensor) -> tuple[Tensor, ...]:
        x = self._embed(tokens, lengths)
        batch, positions = tokens.shape[:2]
        place = torch.arange(positions)
        future = _bias(place > place[:, None], x)  # [P, P]
        caches = []
        *body, last = _layers(self.decoder)
        for layer in body:
            q, k, v = layer.attention_inputs(x, place)
            k, v = k.transpose(1, 2), v.transpose(1, 2)  # [B, G, P, K]
            caches += [k, v]
            x = layer.finish(x, _attend_causally(q, k, v, future))
        _, k, v = last.attention_inputs(x, place)
        k, v = k.transpose(1, 2), v.transpose(1, 2)
        x = x.flatten(0, 1).index_select(0, torch.arange(batch) * positions + lengths)[:, None]  # of SEP: [B, 1, D]
        q, _, _ = last.attention_inputs(x, lengths[:, None])
        scores = _scores(q, k, _beyond(lengths, k))
        x = last.finish(x, _together(scores.softmax(-1) @ v, beams=1))
        return _logits(self.decoder, x, head), *caches, k, v

    def _embed(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """[B, P, D], with SEP where a prompt ends; what stands after it, no token sees."""
        decoder = self.decoder
        x = decoder.embed(tokens) if decoder.merger is None else decoder.embed_merged(tokens)
        ends = torch.arange(tokens.shape[1]) == lengths[:, None]
        return torch.where(ends[..., None], decoder.embed_tokens.weight[SEP], x)


class StepGraph(nn.Module):
    """`EagerEngine.step` as a pure function. `caches`: the inputs from prompt_k.0 on, in the order of the names."""

    def __init__(self, decoder: CausalDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self, tokens: Tensor, parents: Tensor, lengths: Tensor, level: Tensor, head: Tensor, caches: list[Tensor]
    ) -> tuple[Tensor, ...]:
        x, grown = self.decoder.embed(tokens), []
        layers = _layers(self.decoder)
        prompt, suffix = caches[: 2 * len(layers)], caches[2 * len(layers) :]
        (batch, beams), before, slots = tokens.shape, suffix[0].shape[1], suffix[0].shape[3]
        slot = torch.arange(slots)
        fresh, empty = (slot == level - 1)[:, None], _bias(slot >= level, x)
        source = (torch.arange(batch)[:, None] * before + parents).flatten()  # each beam's parent among B · V rows
        beyond = _beyond(lengths, prompt[0])
        for index, layer in enumerate(layers):
            q, *own = layer.attention_inputs(x, (lengths + level)[:, None])
            cached = suffix[2 * index : 2 * index + 2]
            inherited = [old.flatten(0, 1).index_select(0, source).view(batch, beams, *old.shape[2:]) for old in cached]
            k, v = (torch.where(fresh, new[..., None, :], old) for new, old in zip(own, inherited, strict=True))
            grown += [k, v]  # [B, W, G, J, K]
            prompt_k, prompt_v = prompt[2 * index : 2 * index + 2]
            x = layer.finish(x, _attend(q, prompt_k, prompt_v, beyond, k, v, empty))
        return _logits(self.decoder, x, head), *grown


def _attend(
    q: Tensor, prompt_k: Tensor, prompt_v: Tensor, beyond: Tensor, k: Tensor, v: Tensor, empty: Tensor
) -> Tensor:
    """Each beam attends to its prompt and to its own codes, under one softmax. q and the result [B, W, H, K]."""
    (beams, heads, width), groups = q.shape[1:], k.shape[2]
    by_group = torch.unflatten(q * width**-0.5, 2, (groups, heads // groups))  # [B, W, G, R, K]
    to_suffix = by_group @ k.transpose(3, 4) + empty  # [B, W, G, R, J]
    scores = [_scores(q, prompt_k, beyond), to_suffix.transpose(1, 2).flatten(2, 3)]  # [B, G, W·R, P and J]
    weights = torch.cat(scores, dim=-1).softmax(-1)
    positions = prompt_k.shape[2]
    from_prompt = _together(weights[..., :positions] @ prompt_v, beams)
    of_suffix = torch.unflatten(weights[..., positions:], 2, (beams, heads // groups)).transpose(1, 2)
    return from_prompt + (of_suffix @ v).flatten(2, 3)


def _scores(q: Tensor, k: Tensor, bias: Tensor) -> Tensor:
    """All queries of a prompt against its keys at once. q [B, W, H, K], k [B, G, P, K] → [B, G, W·R, P]"""
    (heads, width), groups = q.shape[2:], k.shape[1]
    by_group = torch.unflatten(q * width**-0.5, 2, (groups, heads // groups)).transpose(1, 2)  # [B, G, W, R, K]
    return by_group.flatten(2, 3) @ k.transpose(2, 3) + bias


def _together(attended: Tensor, beams: int) -> Tensor:
    """[B, G, W·R, K] → [B, W, H, K]"""
    return torch.unflatten(attended, 2, (beams, -1)).transpose(1, 2).flatten(2, 3)


def _attend_causally(q: Tensor, k: Tensor, v: Tensor, future: Tensor) -> Tensor:
    """q [B, P, H, K], k and v [B, G, P, K], future [P, P] → [B, P, H, K]. Padding stands last: none before sees it."""
    repeats = q.shape[2] // k.shape[1]
    scores = _scores(q, k, future.repeat_interleave(repeats, dim=0))
    return _together(scores.softmax(-1) @ v, q.shape[1])


def _beyond(lengths: Tensor, k: Tensor) -> Tensor:
    """Leaves a prompt up to its SEP: [B, 1, 1, P], for keys [B, G, P, K]."""
    return _bias(torch.arange(k.shape[2]) > lengths[:, None], k)[:, None, None]


def _bias(hidden: Tensor, like: Tensor) -> Tensor:
    return torch.where(hidden, MASKED, 0.0).to(like.dtype)


def _logits(decoder: CausalDecoder, x: Tensor, head: Tensor) -> Tensor:
    hidden: Tensor = decoder.norm(x)
    return hidden.float() @ head.T


def _layers(decoder: CausalDecoder) -> list[DecoderLayer]:
    return [layer for layer in decoder.layers if isinstance(layer, DecoderLayer)]


def _write(
    graph: nn.Module,
    path: Path,
    example: tuple[Any, ...],
    shapes: tuple[Any, ...],
    inputs: list[str],
    outputs: list[str],
) -> None:
    """`example` and `shapes`: the arguments of the graph, and which of their dimensions vary."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that there is no torchvision
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that axes share, and of PyTorch's own deprecations
        torch.onnx.export(
            graph.eval(),
            example,
            path,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
