"""The engine on ONNX Runtime, for CPUs: the graphs of `onnx_graphs.py`, in fp32 or with weights in int8.

Tensors go in and out as they lie in memory: torch, numpy and ONNX Runtime look at the same bytes.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort  # type: ignore[import-untyped]
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file
from torch import Tensor

from nextpage.decoding.engine import Frontier, Prompts
from nextpage.decoding.engines.onnx_graphs import HEADS, PREFILL, STEP, cache_names, export
from nextpage.models.decoder import CausalDecoder
from nextpage.tokenizers.vocabulary import PAD, Vocabulary

PRECISIONS = ("fp32", "int8")


@dataclass(frozen=True, kw_only=True)
class OnnxState:
    """All that the next step needs; B prompts of at most P - 1 positions, W beams, G, J, K as in the graphs."""

    prompt: tuple[Tensor, ...]  # keys and values of each layer in turn, [B, G, P, K]
    suffix: tuple[Tensor, ...]  # the beams' own, [B, W, G, J, K]
    lengths: Tensor  # int64 [B]


class OnnxEngine:
    """Runs the graphs that `build` wrote into a folder.

    `threads`: of ONNX Runtime, which do not spin while they wait; 0: one a core. Torch's own should be few beside them
    (`torch.set_num_threads(1)`), for they do spin.
    """

    def __init__(self, folder: Path, *, threads: int = 0) -> None:
        heads = load_file(folder / HEADS)
        self._heads = [heads[f"head.{level}"] for level in range(len(heads))]
        self.sizes = tuple(len(head) for head in self._heads)
        self._prefill = _session(folder / PREFILL, threads)
        self._step = _session(folder / STEP, threads) if len(heads) > 1 else None

    def prefill(self, prompts: Prompts) -> Frontier[OnnxState]:
        """The engine's contract; see `nextpage/decoding/engine.py`."""
        tokens, merged = prompts.tokens, len(self._prefill.get_inputs()[0].shape) == 3
        if (tokens.ndim == 3) != merged:
            raise ValueError(
                f"the prompts are {'whole items' if tokens.ndim == 3 else 'plain tokens'}, and the graph reads "
                f"{'whole items' if merged else 'plain tokens'}: is the recipe's layout that of the model?"
            )
        room_for_sep = (0, 0, 0, 1) if merged else (0, 1)
        fed = {"tokens": F.pad(tokens, room_for_sep, value=PAD), "lengths": prompts.lengths}
        logits, *prompt = _run(self._prefill, fed, self._heads[0])
        return Frontier(
            logits=logits,
            state=OnnxState(prompt=tuple(prompt), suffix=self._no_suffix(len(tokens)), lengths=prompts.lengths),
        )

    def step(self, state: OnnxState, parents: Tensor, codes: Tensor, level: int) -> Frontier[OnnxState]:
        """The engine's contract; see `nextpage/decoding/engine.py`."""
        assert self._step is not None
        start, _ = Vocabulary(self.sizes).level_range(level - 1)
        layers = len(state.prompt) // 2
        fed = {
            "tokens": codes.long() + start,
            "parents": parents.long(),
            "lengths": state.lengths,
            "level": torch.tensor(level),
            **dict(zip(cache_names("prompt", layers), state.prompt, strict=True)),
            **dict(zip(cache_names("suffix", layers), state.suffix, strict=True)),
        }
        logits, *grown = _run(self._step, fed, self._heads[level])
        return Frontier(logits=logits, state=OnnxState(prompt=state.prompt, suffix=tuple(grown), lengths=state.lengths))

    def _no_suffix(self, batch: int) -> tuple[Tensor, ...]:
        """What the first step reads past: one beam a prompt."""
        if self._step is None:
            return ()
        shapes = [value.shape[2:] for value in self._step.get_inputs() if value.name.startswith("suffix")]
        return tuple(torch.zeros(batch, 1, *shape) for shape in shapes)


def build(decoder: CausalDecoder, folder: Path, precision: str) -> None:
    """Write what `OnnxEngine` opens. In int8 the weights of linear layers are rounded channel by channel and what they
    read by its range at each call; embedding, attention and head stay in fp32."""
    if precision not in PRECISIONS:
        raise ValueError(f"ONNX Runtime has no engine in {precision!r} here: use {' or '.join(PRECISIONS)}")
    if precision == "fp32":
        export(decoder, folder)
        return
    with tempfile.TemporaryDirectory() as scratch:
        export(decoder, Path(scratch))
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy2(Path(scratch) / HEADS, folder / HEADS)
        for graph in sorted(Path(scratch).glob("*.onnx")):
            _quantise(graph, folder / graph.name)


def _quantise(graph: Path, into: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic  # type: ignore[import-untyped]

    model = onnx.load(graph)
    model.graph.ClearField("value_info")  # its shapes are of fp32 and would be held against the quantised graph
    onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})  # nothing is left to fuse
    quantize_dynamic(
        model,
        into,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        use_external_data_format=True,
    )


def _session(graph: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _run(session: ort.InferenceSession, fed: dict[str, Tensor], head: np.ndarray) -> Sequence[Tensor]:
    inputs = {name: tensor.numpy() for name, tensor in fed.items()}
    return [torch.from_numpy(output) for output in session.run(None, {**inputs, "head": head})]
