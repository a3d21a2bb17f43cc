"""A step's heavy part as processes of their own, taken up again where a killed run stopped."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path


def work_folder(checkpoints: Path, inputs: Iterable[Path]) -> Path:
    """The folder under `checkpoints` that is found again by the same input files, and by no others."""
    digest = hashlib.sha256()
    for path in inputs:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return checkpoints / digest.hexdigest()[:16]


def run_processes(title: str, module: str, arguments: Mapping[str, Path], *, processes: int) -> None:
    """Run `python -m module --name=path …`, by torchrun on this machine where `processes` is more than one.

    `arguments` has the work folder as `output`. Raises RuntimeError where it fails: it can be run again.
    """
    launch = [sys.executable]
    if processes > 1:
        launch += ["-m", "torch.distributed.run", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]
        launch += ["--local-addr=127.0.0.1", f"--nproc-per-node={processes}"]
    command = [*launch, "-m", module, *(f"--{name}={path}" for name, path in arguments.items())]
    finished = subprocess.run(command, env=os.environ | {"DS_ACCELERATOR": _accelerator()}, check=False)
    if finished.returncode:
        raise RuntimeError(
            f"{title} ended with status {finished.returncode}, see its lines above; run the step again to go on from "
            f"the last checkpoint in {arguments['output']}"
        )


def _accelerator() -> str:
    """DeepSpeed asks for a compiler to find out by itself."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
