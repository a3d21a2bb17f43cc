"""The pipeline on one machine: the same definition, its steps as subprocesses, its artifacts in one folder."""

import contextlib
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.console import Console


class RunFailed(RuntimeError):
    """A step failed or a gate stopped the run."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """The folder of a run: `artifacts/` with a folder a task, `run.log`, and what `pipelines.summary` makes of them."""

    folder: Path

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    @property
    def tasks(self) -> Path:
        """The folder of the newest execution, one folder a task."""
        executions = [path for path in self.artifacts.iterdir() if path.is_dir()]
        if not executions:
            raise FileNotFoundError(f"{self.artifacts} holds no execution: did the run start?")
        return max(executions, key=lambda path: path.name)

    def output(self, task: str, name: str) -> Path:
        """The file or folder that a task left as output `name`."""
        return self.tasks / task / name

    def metrics(self, task: str) -> dict[str, float]:
        """What a task logged; empty where it logged nothing or did not end."""
        path = self.tasks / task / "executor_output.json"
        if not path.is_file():
            return {}
        artifacts = json.loads(path.read_text()).get("artifacts", {})
        return dict(artifacts["metrics"]["artifacts"][0]["metadata"]) if "metrics" in artifacts else {}


def run_locally(folder: Path, arguments: Mapping[str, Any]) -> Run:
    """Run the pipeline with `arguments` into `folder`; artifacts of an earlier run there are replaced.

    Raises RunFailed with the runner's word; the reason stands in `run.log` and on the screen.
    """
    from kfp import local

    from pipelines.recommender import recommender

    run = Run(folder=folder)
    shutil.rmtree(run.artifacts, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(run.artifacts.absolute()))
    with _console(folder / "run.log"):
        try:
            recommender(**arguments)
        except RuntimeError as error:
            raise RunFailed(f"the run stopped: see the lines above, or all of them in {folder / 'run.log'}") from error
    return run


@contextlib.contextmanager
def _console(log: Path) -> Iterator[None]:
    import warnings

    with log.open("w") as file, contextlib.redirect_stdout(Console(sys.stdout, file)), warnings.catch_warnings():
        # Names and caching options of tasks are for the cluster's pages; the local runner warns that it has none.
        warnings.filterwarnings("ignore", message=".*have no effect in the current local runner.*")
        yield
