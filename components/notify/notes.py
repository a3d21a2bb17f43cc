"""What steps leave for the summary of their run: small JSON files in a folder that outlives each step's pod.

<folder>/runs/<run>/<name>.json. The step that ends a run can be given no other step's artifacts, for it also runs where
they were never made.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nextpage.gates import Verdict

RELEASE = "release"


def leave_verdict(folder: str, run: str, verdict: Verdict) -> None:
    _leave(folder, run, verdict.gate, asdict(verdict))


def leave_release(folder: str, run: str, *, name: str, hash: str) -> None:
    _leave(folder, run, RELEASE, {"name": name, "hash": hash})


def take(folder: str, run: str) -> tuple[list[Verdict], dict[str, str]]:
    """The verdicts, oldest first, and the release, empty where none was made; what was taken is no longer there."""
    if not folder:
        return [], {}
    notes = Path(folder) / "runs" / run
    found = sorted(notes.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    verdicts = [Verdict.read(path) for path in found if path.stem != RELEASE]
    release = next((json.loads(path.read_text()) for path in found if path.stem == RELEASE), {})
    shutil.rmtree(notes, ignore_errors=True)
    return verdicts, release


def _leave(folder: str, run: str, name: str, said: Mapping[str, Any]) -> None:
    """Nothing where `folder` is empty. A folder that cannot be written makes a poorer summary and stops no step."""
    if not folder:
        return
    path = Path(folder) / "runs" / run / f"{name}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(said))
    except OSError as error:
        print(f"no note for the run's summary: {error}", flush=True)
