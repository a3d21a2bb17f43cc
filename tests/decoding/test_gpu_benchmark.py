"""The command that is ready for a GPU, on a CPU: its cells run, a cell that fails is listed, and no CUDA is said so."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import decoding_gpu


def run(*options: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, decoding_gpu.__file__, *options], env=environment, capture_output=True, text=True, check=False
    )


def test_its_cells_run_on_a_cpu(tmp_path: Path) -> None:
    done = run("--quick", "--device", "cpu", "--repeats", "2", "--json", str(tmp_path / "cells.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    cells = json.loads((tmp_path / "cells.json").read_text())["cells"]
    assert len(cells) == 4
    for cell in cells:
        assert cell["failed"] == ""
        assert cell["p50"] <= cell["p95"] <= cell["p99"]
        assert cell["cell"] in done.stdout


def test_without_cuda_it_says_so() -> None:
    done = run()
    assert done.returncode == 2
    assert "no CUDA here, so nothing was measured" in done.stdout


def test_a_cell_that_fails_is_listed_with_its_reason_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cells(*_: object) -> list[object]:
        broken = ("too large", "ms", 9.0, lambda: {}["memory"])
        slow = ("slow", "ms", 9.0, lambda: {"p50": 10.0, "p95": 11.0, "p99": 12.0, "share": 0.25})
        return [broken, slow]

    monkeypatch.setattr(decoding_gpu, "cells", cells)
    monkeypatch.setattr(sys, "argv", ["decoding_gpu.py", "--device", "cpu"])
    assert decoding_gpu.main() == 1
    first, second = capsys.readouterr().out.splitlines()[1:]
    assert first.split() == ["too", "large", "failed:", "KeyError:", "'memory'"]
    assert second.split() == ["slow", "ms", "10.000", "11.000", "12.000", "9", "missed", "25.0%"]
