"""Building an engine by the module that knows how, for the machine at hand."""

import copy
from importlib import metadata
from pathlib import Path

import torch

from components.optimise.config import PRECISION
from nextpage.decoding.engines.choice import Chosen, by_torch, start_cuda, start_engine
from nextpage.decoding.engines.eager import EagerEngine
from nextpage.decoding.engines.engine_folder import EngineKey
from nextpage.decoding.engines.hardware import cpu_architecture
from nextpage.decoding.engines.parity import deviation
from nextpage.models.decoder import CausalDecoder


def key_of(name: str, release_hash: str) -> EngineKey:
    """What an engine that is built here is for; nothing is measured yet."""
    if name == "tensorrt":
        from nextpage.decoding.engines.tensorrt_plan import PlanShapes, plan_key

        return plan_key(release_hash, PlanShapes(), PRECISION[name])
    return EngineKey(
        engine=name,
        device="cpu",
        architecture=cpu_architecture(),
        package="onnxruntime",
        version=metadata.version("onnxruntime"),
        precision=PRECISION[name],
        release=release_hash,
    )


def built(name: str, decoder: CausalDecoder, folder: Path) -> Chosen:
    """The engine, running from its folder."""
    if name == "tensorrt":
        from nextpage.decoding.engines.tensorrt_plan import PlanShapes
        from nextpage.decoding.engines.tensorrt_plan import build as build_plans

        build_plans(copy.deepcopy(decoder).to(torch.bfloat16), folder, PlanShapes())
    else:
        from nextpage.decoding.engines.onnx_engine import build

        build(decoder, folder, PRECISION[name])
    return start_engine(name, folder)


def by_torch_here(decoder: CausalDecoder, dtype: torch.dtype) -> Chosen:
    """What would serve without any engine: torch on the GPU, where there is one."""
    return start_cuda(copy.deepcopy(decoder)) if torch.cuda.is_available() else by_torch(decoder, dtype)


def deviation_of(chosen: Chosen, key: EngineKey, decoder: CausalDecoder) -> float:
    """From the reference on the probe, where the engine runs."""
    beside = decoder if key.device == "cpu" else copy.deepcopy(decoder).to("cuda")
    return deviation(chosen.engine, EagerEngine(beside))
