"""Plans that TensorRT-RTX builds from our graphs without a GPU. None is run: that needs one, and so does loading."""

import re
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path

import pytest
import tensorrt_rtx_bindings as trt
import torch

from nextpage.decoding.engines.engine_folder import EngineRefused, check_engine, seal_engine
from nextpage.decoding.engines.onnx_graphs import PREFILL, STEP, export
from nextpage.decoding.engines.tensorrt_engine import check_shape, contexts, torch_dtype
from nextpage.decoding.engines.tensorrt_plan import BuildLog, PlanShapes, build, plan_key, profile, shapes_by_name
from tests.decoding.small import decoder

SIZES = (5, 4, 3)
SHAPES = PlanShapes(batch=(1, 2, 8), positions=(2, 65, 257), beams=(1, 64, 256))
ADA = (8, 9)


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plans")
    build(decoder(SIZES).bfloat16(), folder, SHAPES, capability=ADA)
    return folder


def test_a_plan_is_built_for_each_graph_with_the_names_that_the_engine_uses(plans: Path) -> None:
    for graph, names in [
        ("prefill", ("tokens", "lengths", "head", "logits", "prompt_k.0", "prompt_v.1")),
        (
            "step",
            ("tokens", "parents", "level", "head", "prompt_k.1", "suffix_v.0", "logits", "grown_k.0", "grown_v.1"),
        ),
    ]:
        plan = (plans / f"{graph}.plan").read_bytes()
        assert len(plan) > 10_000
        assert all(name.encode() in plan for name in names)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    export(decoder(SIZES).bfloat16(), folder)
    return folder


@pytest.mark.parametrize(
    ("graph", "inputs", "outputs", "ranges"),
    [
        (
            PREFILL,
            {"tokens": 3, "lengths": 1, "head": 2},
            {"logits", "prompt_k.0", "prompt_v.0", "prompt_k.1", "prompt_v.1"},
            {"tokens": [(1, 2, 3), (2, 65, 3), (8, 257, 3)], "head": [(3, 16), (5, 16), (5, 16)]},
        ),
        (
            STEP,
            {"tokens": 2, "parents": 2, "lengths": 1, "level": 0, "head": 2}
            | {f"prompt_{part}.{layer}": 4 for part in "kv" for layer in range(2)}
            | {f"suffix_{part}.{layer}": 5 for part in "kv" for layer in range(2)},
            {"logits", "grown_k.0", "grown_v.0", "grown_k.1", "grown_v.1"},
            {
                "tokens": [(1, 1), (2, 64), (8, 256)],
                "prompt_k.1": [(1, 2, 2, 8), (2, 2, 65, 8), (8, 2, 257, 8)],
                "suffix_v.0": [(1, 1, 2, 2, 8), (2, 64, 2, 2, 8), (8, 256, 2, 2, 8)],
            },
        ),
    ],
)
def test_a_plan_takes_the_shapes_that_it_was_asked_for(
    graphs: Path, graph: str, inputs: dict[str, int], outputs: set[str], ranges: dict[str, list[tuple[int, ...]]]
) -> None:
    """What the builder is told, read back from the network and the optimisation profile that it is told by."""
    log = BuildLog()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert trt.OnnxParser(network, log).parse_from_file(str(graphs / graph)), log.errors
    read = [network.get_input(index) for index in range(network.num_inputs)]
    written = [network.get_output(index) for index in range(network.num_outputs)]
    assert {value.name: len(value.shape) for value in read} == inputs
    assert {value.name for value in written} == outputs
    of_caches = {value.dtype for value in (*read, *written) if value.name[:6] in ("prompt", "suffix", "grown_")}
    assert of_caches == {trt.DataType.BF16}
    assert {value.dtype for value in (*read, *written) if value.name in ("head", "logits")} == {trt.DataType.FLOAT}
    made = profile(builder, network, shapes_by_name(decoder(SIZES), SHAPES))
    for name, (least, usual, most) in ranges.items():
        assert [tuple(shape) for shape in made.get_shape(name)] == [least, usual, most]


@pytest.mark.parametrize("graph", ["prefill", "step"])
def test_the_kernels_of_a_plan_compute_in_bf16_and_queries_keys_and_values_are_one_product(
    plans: Path, graph: str
) -> None:
    layers = [line for line in (plans / f"{graph}.layers.txt").read_text().splitlines() if line.startswith("Name: ")]
    matrices = [line for line in layers if "LayerType: gemm" in line]
    fused = [line for line in matrices if len(re.findall(r"ONNX Layer: MatMul", line)) == 3]
    assert len(fused) >= 1
    assert all("Datatype: BFloat16" in line for line in fused)
    assert len(layers) < 60  # of 295 operators and more
    for name in ("tokens", "lengths", "logits"):
        assert any(f"Name: {name}," in line for line in layers)


def test_a_chip_that_the_library_cannot_build_for_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"builds no plan for compute capability 9\.0: build on such a GPU"):
        build(decoder(SIZES), tmp_path, SHAPES, capability=(9, 0))


def test_a_plan_that_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    (tmp_path / "step.plan").write_bytes(b"of another library")
    with pytest.raises(EngineRefused, match=r"TensorRT cannot load .*step\.plan here") as refusal:
        contexts(tmp_path / "step.plan", 1)
    assert refusal.value.reason == "unreadable"


def test_the_key_of_a_plan_names_library_and_shapes_and_no_other_release_takes_it(tmp_path: Path) -> None:
    key = seal_engine(tmp_path, plan_key("one", SHAPES, "bf16"))
    assert (key.package, key.version) == (
        "tensorrt-rtx-cu13-bindings",
        metadata.version("tensorrt-rtx-cu13-bindings"),
    )
    assert key.shapes == {"batch": (1, 8), "positions": (2, 257), "beams": (1, 256)}
    check_engine(tmp_path, key, "one")
    with pytest.raises(EngineRefused, match="was built from release one"):
        check_engine(tmp_path, key, "other")


def test_shapes_that_do_not_ascend_are_refused() -> None:
    with pytest.raises(ValueError, match="beams 1, 64, 32 of a plan must ascend"):
        PlanShapes(beams=(1, 64, 32))


@pytest.mark.parametrize("shape", [(9, 64), (8, 0), (8, 257), (8,)])
def test_a_shape_outside_the_plans_is_refused(shape: tuple[int, ...]) -> None:
    check_shape("tokens", (8, 64), (1, 1), (8, 256))
    with pytest.raises(ValueError, match=r"tokens has shape .*, the plan takes \(1, 1\) to \(8, 256\)"):
        check_shape("tokens", shape, (1, 1), (8, 256))


def test_tensors_have_the_types_of_the_plan() -> None:
    assert [torch_dtype(dtype) for dtype in (trt.DataType.FLOAT, trt.DataType.BF16, trt.DataType.INT64)] == [
        torch.float32,
        torch.bfloat16,
        torch.int64,
    ]


def test_the_api_is_used_as_tensorrts_stubs_have_it(tmp_path: Path) -> None:
    """mypy takes an installed package for untyped unless it says otherwise, which `tensorrt-stubs` does not; so the
    stub is put where mypy looks first, its slips of syntax mended. A slip of ours is seen to be found."""
    found = util.find_spec("tensorrt_bindings")
    assert found is not None
    assert found.submodule_search_locations is not None
    stub = (Path(next(iter(found.submodule_search_locations))) / "tensorrt.pyi").read_text()
    stub = re.sub(r"\bin: list\[", "in_: list[", stub).replace("channel_axis: int)", "channel_axis: int = ...)")
    (tmp_path / "tensorrt.pyi").write_text(stub)
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nfollow_imports = skip\n[mypy-tensorrt]\nfollow_imports = silent\nignore_errors = True\n"
    )
    ours = [Path(f"nextpage/decoding/engines/tensorrt_{part}.py") for part in ("plan", "engine")]
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        ours[0].read_text().replace("builder.build_serialized_network(", "builder.build_serialised_network(")
    )
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", tmp_path / "mypy.ini", *ours, wrong],
        env={"MYPYPATH": str(tmp_path), "MYPY_CACHE_DIR": str(tmp_path / "cache")},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in run.stdout.splitlines() if ": error:" in line]
    assert len(complaints) == 1, run.stdout + run.stderr
    assert '"Builder" has no attribute "build_serialised_network"' in complaints[0]
