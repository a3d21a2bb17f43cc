"""The Triton kernel against torch's path in Triton's interpreter, and compiled to machine code, which no GPU runs."""

import json
import os
import subprocess
import sys

import pytest

from tests.decoding.kernel_parity import SHAPES


def test_the_kernel_attends_as_the_reference_does() -> None:
    """In a process of its own: Triton reads the variable when it is first imported."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.decoding.kernel_parity"],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    distances = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(distances) == len(SHAPES)
    assert max(distances) < 1e-5


@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
def test_the_kernel_compiles_to_tensor_core_code_of_a_gpu(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from nextpage.decoding.beam_attention import POSITIONS, QUERIES, _kernel

    block = {"M": QUERIES, "N": POSITIONS, "K": 128}
    tensors = {"q", "prompt_k", "prompt_v", "suffix_k", "suffix_v", "bias", "out"}
    types = {
        name: "*bf16" if name in tensors else "fp32" if name == "scale" else "constexpr" if name in block else "i32"
        for name in _kernel.arg_names
    }
    hopper = GPUTarget("cuda", 90, 32)
    compiled = triton.compile(ASTSource(fn=_kernel, signature=types, constexprs=block), target=hopper)
    assert compiled.asm["cubin"].startswith(b"\x7fELF")
    assert "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32" in compiled.asm["ptx"]
