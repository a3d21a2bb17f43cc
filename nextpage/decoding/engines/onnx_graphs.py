"""A decoder as two ONNX graphs, prefill and step: what ONNX Runtime runs and what TensorRT builds plans from.

A prompt's keys and values are outputs of prefill and inputs of every step, one copy for all beams. A beam's own have a
slot for each code that it may still add, so that shapes are the same at every step; slots not yet filled are masked.
One step graph serves all levels: the level is an input, and so is its part of the output head, which on a GPU is a view
of the embedding table and stays in full precision where the graph is quantised. Both hold plain operators of opset 18,
and no dimension of theirs is ever 0. They are written, not traced: tracing two layers took twenty seconds.

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

from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import GraphBuilder
from safetensors.torch import save_file
from torch import Tensor

from nextpage.models.decoder import CausalDecoder
from nextpage.tokenizers.vocabulary import SEP

PREFILL, STEP, HEADS = "prefill.onnx", "step.onnx", "heads.safetensors"
OPSET = 18
MASKED = -1e9
"""Score of what is not seen: its share of the softmax is 0, and unlike -inf it cannot make NaN of two of them."""
END = (1 << 31) - 1  # of a slice
Value = Any
"""An `onnx_ir.Value`; the builder's operators have no types."""


def cache_names(kind: str, layers: int) -> list[str]:
    """Keys and values layer by layer; `kind` is prompt, suffix, or grown: the suffixes that a step gives back."""
    return [f"{kind}_{part}.{layer}" for layer in range(layers) for part in "kv"]


def export(decoder: CausalDecoder, folder: Path) -> None:
    """Write `prefill.onnx`, `step.onnx` (where there is more than one level) and the heads, `head.0` and so on.

    The graphs compute in the decoder's dtype, but norms and logits in fp32. Weights lie beside each, in `<graph>.data`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    heads = {
        f"head.{level}": decoder.output_weight[start:stop].detach().cpu().float().clone()
        for level, (start, stop) in enumerate(decoder.config.level_ranges)
    }
    save_file(heads, folder / HEADS)
    graphs = {PREFILL: _prefill} if len(heads) == 1 else {PREFILL: _prefill, STEP: _step}
    for name, build in graphs.items():
        model = ir.Model(build(_Parts(decoder)), ir_version=10, producer_name="nextpage")
        ir.save(model, folder / name, external_data=f"{name}.data")


def _prefill(of: "_Parts") -> ir.Graph:
    """`EagerEngine.prefill`. The last layer makes keys and values of all positions, and goes on with SEP alone."""
    op, config = of.op, of.config
    item = () if of.merger is None else (len(config.level_ranges),)
    tokens, lengths = of.integers("tokens", "batch", "positions", *item), of.integers("lengths", "batch")
    head = of.head()
    place, end = of.places(tokens, 1), op.Unsqueeze(lengths, [1])
    ends = op.Unsqueeze(op.Equal(place, end), [2])  # [B, P, 1]
    x = op.Where(ends, of.embed(SEP), of.embed(tokens) if of.merger is None else of.embed_merged(tokens))
    rotation, bias = of.rotation(op.Unsqueeze(place, [0])), of.future(place)
    caches = []
    for layer in range(config.layers):
        normed = of.norm(x, f"layers.{layer}.input_layernorm")
        k, v = (op.Transpose(part, perm=[0, 2, 1, 3]) for part in of.keys_and_values(normed, layer, rotation))
        caches += [k, v]  # [B, G, P, K]
        if layer == config.layers - 1:
            x, normed = of.rows_at(end, x), of.rows_at(end, normed)  # [B, 1, D]
            rotation, bias = of.rotation(end), of.beyond(place, end)
        q = of.queries(normed, layer, rotation)
        weights = op.Softmax(of.scores(q, k, bias), axis=-1)
        x = of.finish(x, of.by_position(op.MatMul(weights, v)), layer)
    return of.graph([of.logits(x, head), *caches], ["logits", *cache_names("prompt", config.layers)])


def _step(of: "_Parts") -> ir.Graph:
    """`EagerEngine.step`."""
    op, config = of.op, of.config
    slots, groups, width = of.slots, config.kv_heads, config.head_width
    tokens, parents = of.integers("tokens", "batch", "beams"), of.integers("parents", "batch", "beams")
    lengths, level, head = of.integers("lengths", "batch"), of.integers("level"), of.head()
    prompt = of.caches("prompt", "batch", groups, "positions", width)
    suffix = of.caches("suffix", "batch", "before", groups, slots, width)
    end, slot = op.Unsqueeze(lengths, [1]), of.constant(torch.arange(slots), "slot")
    rotation, beyond = of.rotation(op.Add(end, level)), of.beyond(of.places(prompt[0], 2), end)
    fresh = op.Unsqueeze(op.Equal(slot, op.Sub(level, 1)), [1])  # [J, 1]
    empty = of.bias(op.GreaterOrEqual(slot, level))  # [J]
    first = op.Mul(op.Unsqueeze(of.places(tokens, 0), [1]), op.Shape(suffix[0], start=1, end=2))
    parent = op.Add(parents, first)  # [B, W], among B · V rows
    x, grown = of.embed(tokens), []
    for layer in range(config.layers):
        normed = of.norm(x, f"layers.{layer}.input_layernorm")
        q, own = of.queries(normed, layer, rotation), of.keys_and_values(normed, layer, rotation)
        for new, old in zip(own, suffix[2 * layer : 2 * layer + 2], strict=True):
            inherited = op.Gather(op.Reshape(old, [-1, groups, slots, width]), parent, axis=0)
            grown.append(op.Where(fresh, op.Unsqueeze(new, [3]), inherited))  # [B, W, G, J, K]
        x = of.finish(x, of.attend(q, prompt[2 * layer : 2 * layer + 2], beyond, grown[-2:], empty), layer)
    return of.graph([of.logits(x, head), *grown], ["logits", *cache_names("grown", config.layers)])


class _Parts:
    """The parts of a decoder as nodes of one graph. In shapes, W is also P: each position of prefill is a beam."""

    def __init__(self, decoder: CausalDecoder) -> None:
        self.config, self.merger = decoder.config, decoder.merger
        self.slots = len(self.config.level_ranges) - 1
        self.repeats = self.config.heads // self.config.kv_heads
        self.weights = {name: weight.detach().cpu() for name, weight in decoder.state_dict().items()}
        self.builder = GraphBuilder(ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name="nextpage"))
        self.op = self.builder.op
        self.embedding = self.constant(self.weights["embed_tokens.weight"], "embed_tokens.weight")
        self.dtype = self.embedding.dtype

    def integers(self, name: str, *shape: int | str) -> Value:
        return self.builder.input(name, ir.DataType.INT64, shape)

    def head(self) -> Value:
        return self.builder.input("head", ir.DataType.FLOAT, ("codes", self.config.width))

    def caches(self, kind: str, *shape: int | str) -> list[Value]:
        return [self.builder.input(name, self.dtype, shape) for name in cache_names(kind, self.config.layers)]

    def graph(self, outputs: list[Value], names: list[str]) -> ir.Graph:
        for output, name in zip(outputs, names, strict=True):
            self.builder.add_output(output, name)
        return self.builder.graph

    def constant(self, value: Tensor, name: str) -> Value:
        return self.builder.initializer(ir.tensor(value.contiguous()), name)

    def places(self, x: Value, axis: int) -> Value:
        """0, 1, 2 … along an axis of x."""
        return self.op.Range(0, self.op.Squeeze(self.op.Shape(x, start=axis, end=axis + 1), [0]), 1)

    def embed(self, tokens: Value | int) -> Value:
        """[...] → [..., D]"""
        return self.op.Gather(self.embedding, tokens, axis=0)

    def embed_merged(self, tokens: Value) -> Value:
        """[B, P, L] → [B, P, D]"""
        together = len(self.config.level_ranges) * self.config.width
        return self.linear(self.op.Reshape(self.embed(tokens), [0, 0, together]), "merger.linear")

    def linear(self, x: Value, name: str, scale: float = 1.0) -> Value:
        """x · Wᵀ + b, times `scale`."""
        product = self.op.MatMul(x, self.constant(self.weights[f"{name}.weight"].T * scale, f"{name}.weight"))
        bias = self.weights.get(f"{name}.bias")
        return product if bias is None else self.op.Add(product, self.constant(bias * scale, f"{name}.bias"))

    def norm(self, x: Value, name: str) -> Value:
        """RMSNorm in fp32, in the words that ONNX Runtime makes one operator of."""
        op, x = self.op, self.op.Cast(x, to=ir.DataType.FLOAT)
        root = op.Sqrt(op.Add(op.ReduceMean(op.Pow(x, 2.0), [-1], keepdims=1), self.config.norm_epsilon))
        weight = self.constant(self.weights[f"{name}.weight"].float(), f"{name}.weight")
        return op.Cast(op.Mul(op.Div(x, root), weight), to=self.dtype)

    def rotation(self, position: Value) -> tuple[Value, Value]:
        """Cosine and signed sine for `rotate`. position int64 [B or 1, W] → [B or 1, W, 1, K] each."""
        op, half = self.op, self.config.head_width // 2
        frequency = (self.config.rope_theta ** (-torch.arange(half) / half)).tolist()
        angle = op.Mul(op.Cast(op.Unsqueeze(position, [2, 3]), to=ir.DataType.FLOAT), frequency)
        cosine, sine = op.Cos(angle), op.Sin(angle)
        cosine, sine = op.Concat(cosine, cosine, axis=-1), op.Concat(op.Neg(sine), sine, axis=-1)
        return op.Cast(cosine, to=self.dtype), op.Cast(sine, to=self.dtype)

    def rotate(self, x: Value, rotation: tuple[Value, Value]) -> Value:
        """[B, W, heads, K]: the halves turned as pairs."""
        op, (cosine, sine) = self.op, rotation
        first, second = op.Split(x, axis=-1, num_outputs=2, _outputs=2)
        return op.Add(op.Mul(x, cosine), op.Mul(op.Concat(second, first, axis=-1), sine))

    def queries(self, x: Value, layer: int, rotation: tuple[Value, Value]) -> Value:
        """Scaled by 1/√K: [B, W, H, K]"""
        heads, width = self.config.heads, self.config.head_width
        q = self.linear(x, f"layers.{layer}.self_attn.q_proj", scale=width**-0.5)
        return self.rotate(self.op.Reshape(q, [0, 0, heads, width]), rotation)

    def keys_and_values(self, x: Value, layer: int, rotation: tuple[Value, Value]) -> tuple[Value, Value]:
        """[B, W, G, K] each."""
        k, v = (
            self.op.Reshape(
                self.linear(x, f"layers.{layer}.self_attn.{name}"), [0, 0, self.config.kv_heads, self.config.head_width]
            )
            for name in ("k_proj", "v_proj")
        )
        return self.rotate(k, rotation), v

    def by_group(self, q: Value) -> Value:
        """[B, W, H, K] → [B, W, G, R, K]"""
        return self.op.Reshape(q, [0, 0, self.config.kv_heads, self.repeats, self.config.head_width])

    def by_prompt(self, x: Value, last: int) -> Value:
        """All beams of a prompt as rows: [B, W, G, R, last] → [B, G, W·R, last]"""
        return self.op.Reshape(self.op.Transpose(x, perm=[0, 2, 1, 3, 4]), [0, 0, -1, last])

    def by_beam(self, x: Value, last: int) -> Value:
        """The way back: [B, G, W·R, last] → [B, W, G, R, last]"""
        return self.op.Transpose(self.op.Reshape(x, [0, 0, -1, self.repeats, last]), perm=[0, 2, 1, 3, 4])

    def by_position(self, attended: Value) -> Value:
        """[B, G, W·R, K] → [B, W, H·K]"""
        return self.op.Reshape(
            self.by_beam(attended, self.config.head_width), [0, 0, self.config.heads * self.config.head_width]
        )

    def scores(self, q: Value, k: Value, bias: Value) -> Value:
        """All queries of a prompt against its keys. q [B, W, H, K], k [B, G, P, K] → [B, G, W·R, P]"""
        op, rows = self.op, self.by_prompt(self.by_group(q), self.config.head_width)
        return op.Add(op.MatMul(rows, op.Transpose(k, perm=[0, 1, 3, 2])), bias)

    def attend(self, q: Value, prompt: list[Value], beyond: Value, suffix: list[Value], empty: Value) -> Value:
        """Each beam attends to its prompt and to its own codes, under one softmax. q [B, W, H, K], keys and values of
        the prompt [B, G, P, K], of the beams [B, W, G, J, K] → [B, W, H·K]"""
        op, slots = self.op, self.slots
        to_suffix = op.Add(op.MatMul(self.by_group(q), op.Transpose(suffix[0], perm=[0, 1, 2, 4, 3])), empty)
        scores = op.Concat(self.scores(q, prompt[0], beyond), self.by_prompt(to_suffix, slots), axis=-1)
        weights = op.Softmax(scores, axis=-1)  # [B, G, W·R, P + J]
        from_prompt = op.MatMul(op.Slice(weights, [0], [-slots], [3]), prompt[1])
        from_suffix = op.MatMul(
            self.by_beam(op.Slice(weights, [-slots], [END], [3]), slots), suffix[1]
        )  # [B, W, G, R, K]
        attended = op.Reshape(from_suffix, [0, 0, self.config.heads * self.config.head_width])
        return op.Add(self.by_position(from_prompt), attended)

    def bias(self, hidden: Value) -> Value:
        return self.op.Cast(self.op.Where(hidden, MASKED, 0.0), to=self.dtype)

    def beyond(self, place: Value, end: Value) -> Value:
        """Leaves a prompt up to its SEP: [B, 1, 1, P]"""
        return self.op.Unsqueeze(self.bias(self.op.Greater(place, end)), [1, 2])

    def future(self, place: Value) -> Value:
        """Leaves a position what does not come after it: [P·R, P]. Padding stands last, so no prompt sees it."""
        op = self.op
        rows = op.Reshape(op.Expand(op.Unsqueeze(place, [1]), [1, self.repeats]), [-1, 1])
        return self.bias(op.Greater(place, rows))

    def rows_at(self, place: Value, x: Value) -> Value:
        """place [B, 1], x [B, P, D] → [B, 1, D]"""
        op = self.op
        first = op.Mul(op.Unsqueeze(self.places(x, 0), [1]), op.Shape(x, start=1, end=2))
        return op.Gather(op.Reshape(x, [-1, self.config.width]), op.Add(first, place), axis=0)

    def finish(self, x: Value, attended: Value, layer: int) -> Value:
        """`DecoderLayer.finish`. x [B, W, D], attended [B, W, H·K] → [B, W, D]"""
        op = self.op
        x = op.Add(x, self.linear(attended, f"layers.{layer}.self_attn.o_proj"))
        normed = self.norm(x, f"layers.{layer}.post_attention_layernorm")
        gate, up = (self.linear(normed, f"layers.{layer}.mlp.{name}_proj") for name in ("gate", "up"))
        activated = op.Mul(op.Mul(gate, op.Sigmoid(gate)), up)
        return op.Add(x, self.linear(activated, f"layers.{layer}.mlp.down_proj"))

    def logits(self, x: Value, head: Value) -> Value:
        """[B, W, S]"""
        hidden = self.op.Cast(self.norm(x, "norm"), to=ir.DataType.FLOAT)
        return self.op.MatMul(hidden, self.op.Transpose(head, perm=[1, 0]))
