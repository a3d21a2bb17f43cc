"""Which engine answers: the fastest that a release carries for this machine, or torch, which can everywhere.

That an engine cannot be had is never an error: the next one answers, and who asked is told what was passed over.
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nextpage.decoding.beam_search import Found
from nextpage.decoding.engine import Engine
from nextpage.decoding.engines.eager import EagerEngine
from nextpage.decoding.engines.engine_folder import EngineRefused, check_engine, engine_folders, read_key
from nextpage.decoding.engines.hardware import cpu_architecture, gpu_architecture
from nextpage.decoding.engines.parity import deviation
from nextpage.models.decoder import CausalDecoder

AUTO, TORCH, CUDA = "auto", "torch", "cuda"
CHOICES = (AUTO, TORCH, "onnx", "onnx-int8", CUDA, "tensorrt")
SLACK = 1e-3
"""How much further from the reference than when it was built an engine may be on the probe: what rounding does."""

Search = Callable[..., Found]
"""(prompts, trie, *, beam_width, k, allowed) → Found: `beam_search.search` with an engine in it."""


@dataclass(frozen=True, kw_only=True)
class Fallback:
    """An engine that was passed over, and why: in a word, for a counter, and in a sentence."""

    engine: str
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What answers, by its name in CHOICES. `search`: the whole of it, where the engine has one of its own."""

    name: str
    engine: Engine[Any]
    search: Search | None = None
    fallbacks: tuple[Fallback, ...] = ()


def by_torch(decoder: CausalDecoder, dtype: torch.dtype, fallbacks: Sequence[Fallback] = ()) -> Chosen:
    """What needs nothing else; the reference in fp32."""
    return Chosen(name=TORCH, engine=EagerEngine(decoder.eval(), dtype=dtype), fallbacks=tuple(fallbacks))


def choose_engine(
    asked: str, decoder: CausalDecoder, release: Path, release_hash: str, *, dtype: torch.dtype, threads: int = 0
) -> Chosen:
    """`asked` is one of CHOICES; `dtype` is torch's; `threads` those of an engine on the CPU, 0: one a core.

    `auto` takes a GPU where there is one, else the engine of the release that was measured to be the fastest here, if
    it was faster than torch. Raises ValueError for another word.
    """
    if asked not in CHOICES:
        raise ValueError(f"there is no engine {asked!r}: use {', '.join(CHOICES)}")
    passed: list[Fallback] = []
    for name, opening in _candidates(asked, decoder, release, release_hash, threads):
        try:
            return replace(opening(), fallbacks=tuple(passed))
        except EngineRefused as refusal:
            passed.append(Fallback(engine=name, reason=refusal.reason, message=str(refusal)))
        except Exception as error:  # of a library or a driver: whatever it is, torch can answer
            passed.append(Fallback(engine=name, reason="broken", message=f"engine {name} does not start: {error}"))
    if asked not in (AUTO, TORCH) and not passed:
        missing = f"the release carries no engine {asked}: the step optimise builds it"
        passed.append(Fallback(engine=asked, reason="missing", message=missing))
    return by_torch(decoder.cpu(), dtype, passed)


def _candidates(
    asked: str, decoder: CausalDecoder, release: Path, release_hash: str, threads: int
) -> list[tuple[str, Callable[[], Chosen]]]:
    """What may answer, those for this machine first, those for its GPU before those for its CPU, then by speed."""
    if asked == TORCH:
        return []
    here, gpu = (cpu_architecture(), gpu_architecture()), torch.cuda.is_available()
    found = []
    for folder in engine_folders(release):
        name = folder.name.partition(".")[0]
        try:
            key = read_key(folder)
            speed, order = key.speed, (key.architecture not in here, gpu and key.device == "cpu", -key.speed)
        except EngineRefused:
            speed, order = math.inf, (True, True, 0.0)  # opening it will say why
        if name == asked or (asked == AUTO and speed > 1):
            found.append((order, name, partial(open_engine, folder, decoder, release_hash, threads)))
    if asked == CUDA or (asked == AUTO and gpu):
        found.append(((False, False, -1.0), CUDA, partial(start_cuda, decoder)))
    return [(name, opening) for _, name, opening in sorted(found, key=lambda candidate: candidate[0])]


def open_engine(folder: Path, decoder: CausalDecoder, release_hash: str, threads: int = 0) -> Chosen:
    """An engine of the release, held against its key and against the reference. Raises EngineRefused."""
    key = read_key(folder)
    check_engine(folder, key, release_hash)
    chosen = start_engine(key.engine, folder, threads)
    found = deviation(chosen.engine, EagerEngine(decoder.eval().to("cpu" if key.device == "cpu" else "cuda")))
    if not found <= key.deviation + SLACK:
        raise EngineRefused(
            "parity",
            f"{folder.name} is {found:.4f} away from the reference on the probe, {key.deviation:.4f} when it was built",
        )
    if key.device == "cpu":
        torch.set_num_threads(1)  # torch's threads spin while they wait, on the cores that the engine needs
    return chosen


def start_engine(name: str, folder: Path, threads: int = 0) -> Chosen:
    """What was built into a folder, unchecked."""
    if name == "tensorrt":
        from nextpage.decoding.engines.cuda_graph import GraphSearch
        from nextpage.decoding.engines.tensorrt_engine import TensorRtEngine

        plans = TensorRtEngine(folder)
        return Chosen(name=name, engine=plans, search=GraphSearch(plans, "cuda").search)
    if name not in ("onnx", "onnx-int8"):
        raise EngineRefused("unknown", f"{folder.name} holds an engine {name!r}, which this version does not know")
    from nextpage.decoding.engines.onnx_engine import OnnxEngine

    return Chosen(name=name, engine=OnnxEngine(folder, threads=threads or len(os.sched_getaffinity(0))))


def start_cuda(decoder: CausalDecoder) -> Chosen:
    """Torch on a GPU, a whole search in one CUDA graph. Raises EngineRefused where there is no GPU."""
    if not torch.cuda.is_available():
        raise EngineRefused("architecture", "engine cuda needs a GPU, and torch sees none here")
    from nextpage.decoding.engines.cuda_engine import CudaEngine
    from nextpage.decoding.engines.cuda_graph import GraphSearch

    engine = CudaEngine(decoder.eval().to("cuda"))
    return Chosen(name=CUDA, engine=engine, search=GraphSearch(engine, "cuda").search)
