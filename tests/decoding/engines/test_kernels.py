"""Triton kernels against torch's path in Triton's interpreter, and compiled to machine code, which no GPU runs here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.decoding.engines.kernel_parity import ATTENTION, CHILDREN


@pytest.fixture(scope="module")
def parity() -> dict[str, list[object]]:
    """From a process of its own: Triton reads the variable when it is first imported."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.decoding.engines.kernel_parity"],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    measured: dict[str, list[object]] = json.loads(run.stdout)
    return measured


def test_beams_attend_as_by_torchs_operators(parity: dict[str, list[float]]) -> None:
    assert len(parity["attention"]) == len(ATTENTION)
    assert max(parity["attention"]) < 1e-5


def test_children_are_bit_for_bit_those_of_torchs_operators(parity: dict[str, list[list[bool]]]) -> None:
    assert parity["children"] == [[True] * len(sizes) for _, sizes, _, _, _ in CHILDREN]


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """A kernel's machine code for Hopper, from its arguments' types."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    def compile_(kernel: object, types: dict[str, str], constants: dict[str, int]) -> dict[str, object]:
        signature = {name: types.get(name, "i32") for name in kernel.arg_names} | dict.fromkeys(constants, "constexpr")
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        assembly: dict[str, object] = triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm
        return assembly

    return compile_


@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
def test_attention_compiles_to_tensor_core_code(compiled: object) -> None:
    from nextpage.decoding.engines.beam_attention import POSITIONS, QUERIES, _kernel

    tensors = ("q", "prompt_k", "prompt_v", "suffix_k", "suffix_v", "bias", "out")
    types = dict.fromkeys(tensors, "*bf16") | {"scale": "fp32"}
    code = compiled(_kernel, types, {"M": QUERIES, "N": POSITIONS, "K": 128})
    assert code["cubin"].startswith(b"\x7fELF")
    assert "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32" in code["ptx"]


@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.parametrize("items", [False, True])
def test_children_compile(compiled: object, items: bool) -> None:
    from nextpage.decoding.engines.children_kernel import BLOCK, _kernel

    integers = ("ends", "shifts", "rows", "ranks", "excluded", "edge_out")
    types = dict.fromkeys(integers, "*i32") | dict.fromkeys(("bases", "logits", "score_out"), "*fp32")
    types |= {"codes": "*i16", "slots": "*i64", "beam_out": "*i64"}
    code = compiled(_kernel, types, {"ITEMS": items, "FILTERED": True, "N": BLOCK})
    assert code["cubin"].startswith(b"\x7fELF")
