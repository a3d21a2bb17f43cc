"""Checkpoints that are whole or absent: written aside, moved into place, the last few kept.

One file of whole tensors, so that another number of processes or another ZeRO stage goes on from it.
"""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save_file

from nextpage.training import engine_state

NAME = re.compile(r"step-(\d{8})")
PARTIAL = "partial"
STATE = "state.safetensors"


def save(engine: Any, folder: Path, step: int, *, keep: int) -> None:
    """Save a DeepSpeed engine after `step` steps. Every process calls this; the first one writes, moves and prunes."""
    state = engine_state.read(engine)
    if dist.get_rank() == 0:
        shutil.rmtree(folder / PARTIAL, ignore_errors=True)
        (folder / PARTIAL).mkdir()
        save_file(state, folder / PARTIAL / STATE)
        _sync(folder / PARTIAL)
        os.replace(folder / PARTIAL, folder / f"step-{step:08d}")
        for old in steps(folder)[:-keep]:
            shutil.rmtree(folder / f"step-{old:08d}")
    dist.barrier()


def resume(engine: Any, folder: Path) -> int:
    """Load the newest checkpoint; how many steps it has done (0 where there is none)."""
    found = steps(folder)
    if not found:
        engine_state.begin(engine)
        return 0
    with safe_open(folder / f"step-{found[-1]:08d}" / STATE, framework="pt") as state:
        engine_state.write(engine, state.get_tensor, found[-1])
    return found[-1]


def steps(folder: Path) -> list[int]:
    """The steps of the whole checkpoints in `folder`, in order."""
    matches = (NAME.fullmatch(path.name) for path in folder.iterdir()) if folder.is_dir() else iter(())
    return sorted(int(match.group(1)) for match in matches if match)


def _sync(folder: Path) -> None:
    """Have the bytes on the disk before the name says that they are."""
    for path in (path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
