"""Alignment as processes: by the same loop as next-page training, with the same promises."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.alignment.small import policy

STEPS = 8
OBJECTIVES = ("policy", "bf16", "preference")


def _command(folder: Path, objective: str, pause: float = 0.0) -> list[str]:
    return [sys.executable, "-m", "tests.alignment.worker", str(folder), str(STEPS), objective, str(pause)]


def _environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}


def _run(folder: Path, objective: str) -> list[float]:
    finished = subprocess.run(
        _command(folder, objective), env=_environment(), capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    return _losses(folder)


def _losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line["loss"] for line in lines]


@pytest.fixture(scope="module", params=OBJECTIVES)
def undisturbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    assert len(_run(folder, request.param)) == STEPS
    return request.param, folder


def test_every_parameter_changes(undisturbed: tuple[str, Path]) -> None:
    aligned, before = load_file(undisturbed[1] / "weights.safetensors"), policy().state_dict()
    assert aligned.keys() == before.keys()
    assert [name for name, weight in before.items() if torch.allclose(weight, aligned[name], atol=1e-6)] == []


def test_a_run_killed_at_any_step_goes_on_with_the_losses_of_an_undisturbed_one(
    undisturbed: tuple[str, Path], tmp_path: Path
) -> None:
    objective, whole = undisturbed
    at_step = random.SystemRandom().randrange(1, STEPS)
    process = subprocess.Popen(_command(tmp_path, objective, 0.2), env=_environment(), stderr=subprocess.DEVNULL)
    while not _logged(tmp_path, at_step):
        assert process.poll() is None, f"the run ended before step {at_step}"
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert _run(tmp_path, objective) == pytest.approx(_losses(whole), abs=1e-6), f"killed after step {at_step}"
    resumed, expected = (load_file(folder / "weights.safetensors") for folder in (tmp_path, whole))
    assert all(torch.allclose(resumed[name], expected[name], atol=1e-6) for name in expected)


def test_two_processes_share_the_prompts_of_a_step(tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]
    command = [*launch, "--local-addr=127.0.0.1", "--nproc-per-node=2", *_command(tmp_path, "policy")[1:]]
    finished = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert len(_losses(tmp_path)) == STEPS


def _logged(folder: Path, step: int) -> bool:
    log = folder / "log.jsonl"
    return log.exists() and len(log.read_text().splitlines()) >= step
