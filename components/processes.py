"""A step's heavy part as processes of their own, taken up again where a killed run stopped."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from components.placement import Placement

NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def work_folder(checkpoints: Path, inputs: Iterable[Path]) -> Path:
    """The folder under `checkpoints` that is found again by the same inputs, and by no others: files, or tables that an
    engine wrote as folders of Parquet files."""
    digest = hashlib.sha256()
    for path in inputs:
        for part in sorted(path.rglob("*.parquet")) if path.is_dir() else [path]:
            with part.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return checkpoints / digest.hexdigest()[:16]


def run_processes(
    title: str, module: str, arguments: Mapping[str, Path], *, result: str, placement: Placement | None = None
) -> None:
    """Run `python -m module --name=path …` where `placement` says: here, or on the nodes of a TrainJob.

    `arguments` has the work folder as `output`, in which the processes leave `result` last. Raises RuntimeError where
    they fail: it can be run again.
    """
    placement = placement or Placement()
    if placement.nodes > 1:
        _on_many_nodes(title, module, arguments, result, placement)
    else:
        _here(title, module, arguments, placement.processes)


def _here(title: str, module: str, arguments: Mapping[str, Path], processes: int) -> None:
    """By torchrun where `processes` is more than one."""
    launch = [sys.executable]
    if processes > 1:
        launch += ["-m", "torch.distributed.run", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]
        launch += ["--local-addr=127.0.0.1", f"--nproc-per-node={processes}"]
    command = [*launch, "-m", module, *(f"--{name}={path}" for name, path in arguments.items())]
    finished = subprocess.run(command, env=os.environ | {"DS_ACCELERATOR": _accelerator()}, check=False)
    if finished.returncode:
        raise RuntimeError(
            f"{title} ended with status {finished.returncode}, see its lines above; {_how_to_go_on(arguments)}"
        )


def _on_many_nodes(title: str, module: str, arguments: Mapping[str, Path], result: str, placement: Placement) -> None:
    from components.trainjob.launch import Launcher, TrainJobFailed
    from components.trainjob.manifest import MANAGER, Launch
    from components.trainjob.shared_folder import share
    from serving.rollout.cluster import Retries, connect

    if not NAMESPACE.exists():
        raise RuntimeError(f"{title} is to run on {placement.nodes} nodes, and this is no pod of a cluster: nodes=1")
    launch = Launch(
        name=f"nextpage-{title}-{arguments['output'].name}",
        namespace=NAMESPACE.read_text().strip(),
        module=module,
        arguments=share(arguments),
        result=arguments["output"] / result,
        placement=placement,
    )
    patient = Retries(attempts=40, longest_s=30.0)  # an API server that is upgraded is away for minutes
    try:
        Launcher(cluster=connect(patient, manager=MANAGER), launch=launch).run()
    except TrainJobFailed as failure:
        print(failure.account, flush=True)
        (arguments["output"] / "failure.md").write_text(failure.account)
        raise RuntimeError(f"{title}: {failure}; {_how_to_go_on(arguments)}") from failure


def _how_to_go_on(arguments: Mapping[str, Path]) -> str:
    return f"run the step again to go on from the last checkpoint in {arguments['output']}"


def _accelerator() -> str:
    """DeepSpeed asks for a compiler to find out by itself."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
