"""What many nodes read and write lies in one folder that all of them, and the step, mount at the same path.

Artifacts of a pipeline are files of one pod. So inputs are copied to where every node sees them, and what the nodes
leave is copied from there by the step, as it would be on one machine.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path


def share(arguments: Mapping[str, Path]) -> dict[str, Path]:
    """Copy each input under the folder `arguments["output"]`; the arguments that name the copies.

    A copy is whole or absent, and one that is there is of the same input: the folder is named by what they hold.
    """
    output = arguments["output"]
    inputs = output / "inputs"
    inputs.mkdir(parents=True, exist_ok=True)
    output.chmod(0o777)  # the nodes may run as another user than the step
    return {name: output if name == "output" else _copy(path, inputs / name) for name, path in arguments.items()}


def _copy(source: Path, target: Path) -> Path:
    if target.exists():
        return target
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if source.is_dir():
        shutil.copytree(source, partial)
    else:
        shutil.copy2(source, partial)
    return partial.replace(target)
