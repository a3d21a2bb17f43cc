"""Checkpoints that are whole or absent: written aside, moved into place, the last few kept."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch.distributed as dist

NAME = re.compile(r"step-(\d{8})")
PARTIAL = "partial"


def save(engine: Any, folder: Path, step: int, *, keep: int) -> None:
    """Save a DeepSpeed engine after `step` steps. Every process calls this; the first one moves and prunes."""
    first = dist.get_rank() == 0
    if first:
        shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    dist.barrier()
    engine.save_checkpoint(str(folder / PARTIAL), tag="state", save_latest=False)
    dist.barrier()
    if first:
        _sync(folder / PARTIAL)
        os.replace(folder / PARTIAL, folder / f"step-{step:08d}")
        for old in steps(folder)[:-keep]:
            shutil.rmtree(folder / f"step-{old:08d}")
    dist.barrier()


def resume(engine: Any, folder: Path) -> int:
    """Load the newest checkpoint; how many steps it has done (0 where there is none)."""
    found = steps(folder)
    if not found:
        return 0
    path, _ = engine.load_checkpoint(str(folder / f"step-{found[-1]:08d}"), tag="state")
    if path is None:
        raise RuntimeError(
            f"checkpoint {folder}/step-{found[-1]:08d} cannot be read by this run: was it made by another number of "
            "processes or another ZeRO stage?"
        )
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
