"""Plans of TensorRT, built from the graphs of `onnx_graphs.py`: prefill and step, for a range of shapes.

Either package serves: `tensorrt`, or `tensorrt-rtx` with the same API, which builds without a GPU too. A plan is for
one architecture and one version of the library. It computes in the decoder's dtype, as the graph says, with no
precision that the builder chooses for itself. Selection, trie and filter are no part of it: `GraphSearch` runs them
around it.

| file | what |
|---|---|
| `prefill.plan`, `step.plan` | the plans |
| `prefill.layers.txt`, `step.layers.txt` | the kernels that the builder chose, and what they read and write |
| `heads.safetensors` | the output head of each level |
"""

import tempfile
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nextpage.decoding.engines.engine_folder import EngineKey
from nextpage.decoding.engines.hardware import gpu_architecture
from nextpage.decoding.engines.onnx_graphs import HEADS, PREFILL, STEP, export
from nextpage.models.decoder import CausalDecoder

PACKAGES = (("tensorrt", "tensorrt"), ("tensorrt_rtx_bindings", "tensorrt-rtx-cu13-bindings"))
"""Modules, in order of preference, and the packages that they come with."""


def _library() -> tuple[Any, str]:
    for module, package in PACKAGES:
        try:
            found = import_module(module)
        except ImportError:
            continue
        if hasattr(found, "Builder"):  # stubs alone are importable too
            return found, package
    raise ImportError(f"TensorRT is not installed: add {' or '.join(package for _, package in PACKAGES)}")


if TYPE_CHECKING:
    import tensorrt as trt  # type: ignore[import-untyped]

    PACKAGE: str
else:
    trt, PACKAGE = _library()


@dataclass(frozen=True, kw_only=True)
class PlanShapes:
    """Least, usual and most: a plan is fastest at the usual shapes and refuses what lies outside."""

    batch: tuple[int, int, int] = (1, 1, 32)
    positions: tuple[int, int, int] = (2, 257, 4097)  # SEP included
    beams: tuple[int, int, int] = (1, 64, 1000)

    def __post_init__(self) -> None:
        for name, (least, usual, most) in vars(self).items():
            if not 1 <= least <= usual <= most:
                raise ValueError(f"{name} {least}, {usual}, {most} of a plan must ascend from 1: least, usual, most")


class BuildLog(trt.ILogger):  # type: ignore[misc]
    """Keeps what the builder says of its layers and of what goes wrong."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.layers, self.errors = "", ""

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
            self.errors += msg + "\n"
        elif msg.startswith("Layers:"):
            self.layers = msg


def build(
    decoder: CausalDecoder, folder: Path, shapes: PlanShapes, *, capability: tuple[int, int] | None = None
) -> None:
    """Write what `TensorRtEngine` opens, for the GPU at hand or, with TensorRT-RTX, for a compute capability.

    Raises RuntimeError, with the builder's own words, where it builds no plan.
    """
    ranges = shapes_by_name(decoder, shapes)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        export(decoder, Path(scratch))
        (folder / HEADS).write_bytes((Path(scratch) / HEADS).read_bytes())
        for graph in (PREFILL, STEP):
            if (Path(scratch) / graph).exists():
                plan, layers = _plan(Path(scratch) / graph, ranges, capability)
                (folder / graph).with_suffix(".plan").write_bytes(plan)
                (folder / graph).with_suffix(".layers.txt").write_text(layers)


def shapes_by_name(decoder: CausalDecoder, shapes: PlanShapes) -> dict[str, tuple[int, int, int]]:
    """Of each dimension that varies, by its name in the graphs."""
    sizes = [stop - start for start, stop in decoder.config.level_ranges]
    _, beams, most_beams = shapes.beams
    return {**vars(shapes), "before": (1, beams, most_beams), "codes": (min(sizes), max(sizes), max(sizes))}


def plan_key(release_hash: str, shapes: PlanShapes, precision: str) -> EngineKey:
    """Of plans built here."""
    return EngineKey(
        engine="tensorrt",
        device="gpu",
        architecture=gpu_architecture(),
        package=PACKAGE,
        version=metadata.version(PACKAGE),
        precision=precision,
        release=release_hash,
        shapes={name: (least, most) for name, (least, _, most) in vars(shapes).items()},
    )


def _plan(
    graph: Path, ranges: dict[str, tuple[int, int, int]], capability: tuple[int, int] | None
) -> tuple[bytes, str]:
    """The plan of a graph and its layers."""
    log = BuildLog()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(graph)):
        raise RuntimeError(f"TensorRT cannot read {graph.name}: {log.errors}")
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.add_optimization_profile(profile(builder, network, ranges))
    if capability is not None:
        _build_for(config, capability)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError(f"TensorRT builds no plan of {graph.name}: {log.errors}")
    return bytes(plan), log.layers


def profile(
    builder: trt.Builder, network: trt.INetworkDefinition, ranges: dict[str, tuple[int, int, int]]
) -> trt.IOptimizationProfile:
    """The shapes that a plan must take, input by input, from those of the named dimensions."""
    made = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        value = network.get_input(index)
        places = range(len(value.shape))
        names = [value.get_dimension_name(place) for place in places]
        bounds = [ranges[names[place]] if names[place] else (value.shape[place],) * 3 for place in places]
        if any(names):
            least, usual, most = (trt.Dims(list(sizes)) for sizes in zip(*bounds, strict=True))
            made.set_shape(value.name, least, usual, most)
    return made


def sizes_of(shape: trt.Dims) -> tuple[int, ...]:
    return tuple(shape[place] for place in range(len(shape)))


def _build_for(config: Any, capability: tuple[int, int]) -> None:
    """TensorRT-RTX's own: the stubs are of TensorRT, which builds for the GPU at hand."""
    known = getattr(trt, "ComputeCapability", None)
    wanted = getattr(known, "SM{}{}".format(*capability), None)
    if wanted is None:
        raise ValueError(
            f"{PACKAGE} builds no plan for compute capability {'.'.join(map(str, capability))}: "
            "build on such a GPU, with the package tensorrt"
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(wanted, 0)
