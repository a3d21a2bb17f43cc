"""What a local run comes to: `summary.json`, the release beside it, and the report."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nextpage.gates import Verdict
from pipelines.local import Run

STEPS = (
    "ingest",
    "validate",
    "features",
    "tokenize",
    "train",
    "align",
    "evaluate",
    "release",
    "optimise",
    "monitor",
    "report",
)
VERDICTS = (
    ("validate", "verdict"),
    ("tokenize", "verdict"),
    ("align", "verdict"),
    ("evaluate", "recall"),
    ("evaluate", "invalid_items"),
    ("optimise", "verdict"),
    ("monitor", "verdict"),
    ("monitor", "drift"),
)


def collect(run: Run) -> dict[str, Any]:
    """Bring release, features and report to the run's own folder and write `summary.json`, also of a run that stopped.

    Keys: `seconds` and `peak_memory_mb` by step and `total`; `metrics.model`, `metrics.baselines.<name>`; `verdicts`
    by gate; `release.path`, `release.hash` (none where no release was made).
    """
    costs = {step: run.metrics(step) for step in STEPS}
    seconds = {step: round(cost["seconds"], 2) for step, cost in costs.items() if cost}
    memory = {step: round(cost["peak_memory_mb"]) for step, cost in costs.items() if cost}
    summary = {
        "name": run.folder.name,
        "seconds": seconds | {"total": round(sum(seconds.values()), 2)},
        "peak_memory_mb": memory | {"total": max(memory.values(), default=0)},
        "metrics": _metrics(run.output("evaluate", "figures")),
        "verdicts": _verdicts(run),
        "release": _release(run),
    }
    report = run.output("report", "page")
    if report.is_file():
        shutil.copyfile(report, run.folder / "report.html")
    _link(run.output("features", "features"), run.folder / "features")
    _write(summary, run.folder)
    return summary


def add_verdicts(folder: Path, result: Mapping[str, Any]) -> None:
    """Put what `pipelines.experiment.run_experiments` came to into a run's `summary.json`: `verdicts`, `seconds`."""
    summary = json.loads((folder / "summary.json").read_text())
    summary["verdicts"] |= result["verdicts"]
    steps = {name: seconds for name, seconds in summary["seconds"].items() if name != "total"}
    steps["experiment"] = result["seconds"]
    summary["seconds"] = steps | {"total": round(sum(steps.values()), 2)}
    _write(summary, folder)


def _write(summary: Mapping[str, Any], folder: Path) -> None:
    partial = folder / ".summary.json.partial"
    partial.write_text(json.dumps(summary, indent=1))
    partial.replace(folder / "summary.json")


def _metrics(figures: Path) -> dict[str, Any]:
    return json.loads(figures.read_text()) if figures.is_file() else {}


def _verdicts(run: Run) -> dict[str, dict[str, Any]]:
    paths = [run.output(step, name) for step, name in VERDICTS]
    verdicts = [Verdict.read(path) for path in paths if path.is_file()]
    return {verdict.gate: {"passed": verdict.passed, "reasons": list(verdict.reasons)} for verdict in verdicts}


def _release(run: Run) -> dict[str, str]:
    made, kept = run.output("optimise", "release"), run.folder / "release"
    shutil.rmtree(kept, ignore_errors=True)
    if not made.is_dir():
        return {}
    shutil.copytree(made, kept)
    return {"path": str(kept), "hash": json.loads((kept / "manifest.json").read_text())["hash"]}


def _link(target: Path, link: Path) -> None:
    """The folder is large and a store in use: linked, not copied."""
    link.unlink(missing_ok=True)
    if target.is_dir():
        link.symlink_to(os.path.relpath(target, link.parent), target_is_directory=True)
