"""The loop as processes: the same losses by one process or two, and after a kill."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nextpage.layouts.pages import PagesConfig
from nextpage.training import checkpoints
from nextpage.training.batches import Batches
from nextpage.training.schedule import learning_rate
from tests.histories import random_item_tokens, random_sequences, small_decoder

STEPS = 12


def _command(folder: Path, *settings: str, processes: int = 0, steps: int = STEPS) -> list[str]:
    launch = [sys.executable]
    if processes:
        launch += ["-m", "torch.distributed.run", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]
        launch += ["--local-addr=127.0.0.1", f"--nproc-per-node={processes}"]
    return [*launch, "-m", "tests.training.worker", str(folder), str(steps), *settings]


def _run(folder: Path, *settings: str, processes: int = 0) -> list[float]:
    finished = subprocess.run(
        _command(folder, *settings, processes=processes),
        capture_output=True,
        text=True,
        env=_environment(),
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    return _losses(folder)


def _environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}


def _losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line["loss"] for line in lines]


def _go_on(before: Path, folder: Path, *settings: str, processes: int = 0) -> list[float]:
    """The losses of a run that takes over at step 9 of another."""
    folder.mkdir()
    shutil.copytree(before / "step-00000009", folder / "step-00000009")
    lines = (before / "log.jsonl").read_text().splitlines(keepends=True)
    (folder / "log.jsonl").write_text("".join(lines[:9]))
    return _run(folder, *settings, processes=processes)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    _run(folder)
    return folder


def test_training_lowers_the_loss_and_changes_every_parameter(undisturbed: Path) -> None:
    losses = _losses(undisturbed)
    assert len(losses) == STEPS
    assert sum(losses[-3:]) < sum(losses[:3]) - 0.1
    trained, fresh = load_file(undisturbed / "weights.safetensors"), small_decoder().state_dict()
    assert trained.keys() == fresh.keys()
    assert [name for name, weight in fresh.items() if torch.equal(weight, trained[name])] == []


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_two_processes_have_the_losses_of_one_at_every_zero_stage_and_one_goes_on_where_they_stood(
    undisturbed: Path, tmp_path: Path, stage: int
) -> None:
    both = tmp_path / "both"
    losses = _run(both, f"zero_stage={stage}", processes=2)
    assert losses == pytest.approx(_losses(undisturbed), abs=2e-4)
    weights, expected = load_file(both / "weights.safetensors"), load_file(undisturbed / "weights.safetensors")
    assert max(float((weights[name] - expected[name]).abs().max()) for name in expected) < 5e-3
    assert _go_on(both, tmp_path / "one") == pytest.approx(losses, abs=2e-4)


@pytest.mark.parametrize("stage", [2, 3])
def test_two_processes_go_on_where_one_stood(undisturbed: Path, tmp_path: Path, stage: int) -> None:
    losses = _go_on(undisturbed, tmp_path / "both", f"zero_stage={stage}", processes=2)
    assert losses == pytest.approx(_losses(undisturbed), abs=2e-4)


def test_torchrun_with_one_process_has_the_losses_of_a_plain_process(undisturbed: Path, tmp_path: Path) -> None:
    assert _run(tmp_path, processes=1) == pytest.approx(_losses(undisturbed), abs=1e-6)


def test_a_run_killed_at_any_step_goes_on_with_the_losses_of_an_undisturbed_one(
    undisturbed: Path, tmp_path: Path
) -> None:
    at_step = random.SystemRandom().randrange(1, STEPS)
    process = subprocess.Popen(_command(tmp_path, "pause=0.15"), env=_environment(), stderr=subprocess.DEVNULL)
    while not _logged(tmp_path, at_step):
        assert process.poll() is None, f"the run ended before step {at_step}"
        time.sleep(0.02)
    process.kill()
    process.wait()
    (tmp_path / checkpoints.PARTIAL).mkdir(exist_ok=True)  # as if hit while saving
    assert _run(tmp_path) == pytest.approx(_losses(undisturbed), abs=1e-6), f"killed after step {at_step}"
    resumed, expected = load_file(tmp_path / "weights.safetensors"), load_file(undisturbed / "weights.safetensors")
    assert all(torch.allclose(resumed[name], expected[name], atol=1e-6) for name in expected)


def test_sigterm_saves_the_step_and_exits_143(undisturbed: Path, tmp_path: Path) -> None:
    settings = ("pause=0.15", "checkpoint_every=1000")
    process = subprocess.Popen(_command(tmp_path, *settings), env=_environment(), stderr=subprocess.DEVNULL)
    while not _logged(tmp_path, 2):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    (saved,) = checkpoints.steps(tmp_path)
    assert 2 <= saved < STEPS
    assert _run(tmp_path) == pytest.approx(_losses(undisturbed), abs=1e-6)


def test_only_the_last_checkpoints_are_kept(undisturbed: Path) -> None:
    assert checkpoints.steps(undisturbed) == [9, 12]


def _logged(folder: Path, step: int) -> bool:
    log = folder / "log.jsonl"
    return log.exists() and len(log.read_text().splitlines()) >= step


def _batches(batch_tokens: int = 400) -> Batches:
    return Batches(
        sequences=random_sequences(24),
        item_tokens=random_item_tokens(),
        layout=PagesConfig(page_items=4),
        batch_tokens=batch_tokens,
        seed=3,
    )


def test_an_epoch_shows_every_history_once_in_batches_of_about_equal_size() -> None:
    walk = _batches().walk(start=0, rank=0, processes=1)
    epoch, sizes = [], []
    for packed in walk:
        sizes.append(len(packed))
        epoch.append(packed.learnt)
        if sum(epoch) >= (whole := next(_batches(10**9).walk(start=0, rank=0, processes=1)).learnt):
            break
    assert sum(epoch) == whole
    assert max(sizes) < 2.5 * min(sizes)


def test_processes_share_each_batch_without_overlap_and_resume_where_they_stood() -> None:
    whole = _batches().walk(start=2, rank=0, processes=1)
    shares = [_batches().walk(start=2, rank=rank, processes=2) for rank in range(2)]
    for _ in range(5):
        packed, *parts = next(whole), *map(next, shares)
        assert packed.learnt == sum(part.learnt for part in parts)
        targets = sorted(packed.target.tolist())
        learnt = sorted(target for part in parts for target in part.target.tolist())
        assert [t for t in targets if t >= 0] == [t for t in learnt if t >= 0]


def test_more_processes_than_histories_in_a_batch_is_an_error_that_says_what_to_raise() -> None:
    with pytest.raises(ValueError, match="for 25 processes: raise batch_tokens, which is 400"):
        next(_batches().walk(start=0, rank=0, processes=25))


def test_the_schedule_warms_up_over_one_per_cent_and_ends_near_zero() -> None:
    rates = [learning_rate(step, steps=1000, peak=2e-3, warmup=0.01) for step in range(1000)]
    assert rates[0] == pytest.approx(2e-4)
    assert max(rates) == rates[9] == pytest.approx(2e-3)
    assert rates[504] == pytest.approx(1e-3, rel=0.01)
    assert rates[-1] < 1e-7
