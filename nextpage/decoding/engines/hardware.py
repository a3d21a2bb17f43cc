"""What an engine is built for: two machines with the same words run the same instructions."""

import os
import platform
import shutil
from importlib.util import find_spec
from pathlib import Path

import torch

INT8_INSTRUCTIONS = ("amx_int8", "avx512_vnni", "avx_vnni", "avx2", "i8mm", "asimddp")
"""By them int8 products differ in speed, and before VNNI in saturation too; as Linux calls them, the best first."""


def cpu_architecture() -> str:
    """As x86_64-avx512_vnni; the machine alone where Linux does not say more."""
    machine, known = platform.machine(), Path("/proc/cpuinfo")
    said = set(known.read_text().split()) if known.is_file() else set()
    return "-".join([machine, *(name for name in INT8_INSTRUCTIONS if name in said)][:2])


def gpu_architecture() -> str:
    """As sm_90, and "none" without a GPU."""
    if not torch.cuda.is_available():
        return "none"
    major, minor = torch.cuda.get_device_capability()
    return f"sm_{major}{minor}"


def triton_runs() -> bool:
    """Whether Triton is here with what it needs: it compiles a launcher in C when a kernel first starts."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    return bool(find_spec("triton") and compiler)
