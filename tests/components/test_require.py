from pathlib import Path

import pytest

from components.require.component import require
from nextpage.gates import GateFailed, Verdict


class Artifact:
    """What KFP hands to a component: something with a path."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)


def test_a_failed_verdict_stops_the_run_with_its_reasons(tmp_path: Path) -> None:
    Verdict(gate="data quality", passed=False, reasons=("too few users: 1, the bound is at least 20",)).write(
        tmp_path / "verdict"
    )
    with pytest.raises(GateFailed, match="'data quality' stopped the run: too few users: 1, the bound is at least 20"):
        require.python_func(Artifact(tmp_path / "verdict"))


def test_a_passed_verdict_lets_the_run_go_on(tmp_path: Path) -> None:
    Verdict(gate="data quality", passed=True, reasons=("all is well",)).write(tmp_path / "verdict")
    assert require.python_func(Artifact(tmp_path / "verdict")) is None


def test_no_verdict_is_never_a_success(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        require.python_func(Artifact(tmp_path / "verdict"))
