"""The script that gives the claims to their user says which one it could not."""

import subprocess
import sys
from pathlib import Path

from tests.charts.conftest import SOURCE


def run(*folders: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, SOURCE / "files" / "claims.py", *folders]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_claims_that_can_be_written_are_left_as_they_are(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path} can be written\n")
    assert not list(tmp_path.iterdir())


def test_a_claim_that_cannot_be_written_is_named_with_the_way_out(tmp_path: Path) -> None:
    done = run(tmp_path, tmp_path / "away")
    assert done.returncode == 1
    assert str(tmp_path / "away") in done.stderr
    assert "group 65532" in done.stderr
