"""A release with an engine, as small as it gets."""

from importlib import metadata
from pathlib import Path
from typing import Any

from nextpage.decoding.engines.engine_folder import EngineKey, seal_engine
from nextpage.decoding.engines.hardware import cpu_architecture
from nextpage.decoding.engines.onnx_engine import build
from nextpage.models.decoder import CausalDecoder
from nextpage.release import ENGINES

RELEASE = "c0ffee"


def add_engine(release: Path, model: CausalDecoder, /, *, precision: str = "fp32", **told: Any) -> Path:
    """Its folder. By default the key says that it is for this machine and twice as fast as torch."""
    key: dict[str, Any] = {
        "engine": "onnx" if precision == "fp32" else f"onnx-{precision}",
        "device": "cpu",
        "architecture": cpu_architecture(),
        "package": "onnxruntime",
        "version": metadata.version("onnxruntime"),
        "precision": precision,
        "release": RELEASE,
        "deviation": 1e-4 if precision == "fp32" else 1.0,
        "latency_ms": {"1": 5.0},
        "torch_latency_ms": {"1": 10.0},
    }
    sealed = EngineKey(**key | told)
    folder = release / ENGINES / sealed.name
    build(model, folder, precision)
    seal_engine(folder, sealed)
    return folder
