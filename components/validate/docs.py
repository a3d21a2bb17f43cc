"""Great Expectations' Data Docs as one file."""

from collections.abc import Sequence
from pathlib import Path

from components.validate.expectations import Finding
from nextpage.gates import Verdict


def write_docs(path: Path, findings: Sequence[Finding], verdict: Verdict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<p>{verdict.reasons}</p>")
