"""Processes find their work again by their inputs alone, and one that fails says how to go on."""

import subprocess
from pathlib import Path

import pytest

from components import processes
from components.placement import Placement
from components.processes import run_processes, work_folder
from components.trainjob.launch import Launcher, TrainJobFailed


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What would have been run; each of it fails."""
    seen: list[list[str]] = []

    def refuse(command: list[str], **_: object) -> subprocess.CompletedProcess:
        seen.append(command)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(processes.subprocess, "run", refuse)
    return seen


def test_a_process_that_fails_is_an_error_with_its_status_and_how_to_go_on(
    tmp_path: Path, commands: list[list[str]]
) -> None:
    message = f"baking ended with status 3, .* run the step again to go on from the last checkpoint in {tmp_path}"
    with pytest.raises(RuntimeError, match=message):
        run_processes("baking", "bakery.oven", {"bread": tmp_path / "dough", "output": tmp_path}, result="loaf")
    assert commands[0][1:] == ["-m", "bakery.oven", f"--bread={tmp_path / 'dough'}", f"--output={tmp_path}"]


def test_several_processes_are_launched_by_torchrun_on_this_machine_only(
    tmp_path: Path, commands: list[list[str]]
) -> None:
    with pytest.raises(RuntimeError, match="status 3"):
        run_processes("baking", "bakery.oven", {"output": tmp_path}, result="loaf", placement=Placement(processes=2))
    assert {"torch.distributed.run", "--nproc-per-node=2", "--local-addr=127.0.0.1"} <= set(commands[0])
    assert commands[0][-3:] == ["-m", "bakery.oven", f"--output={tmp_path}"]


def test_many_nodes_are_refused_where_there_is_no_cluster(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="baking is to run on 2 nodes, and this is no pod of a cluster: nodes=1"):
        run_processes("baking", "bakery.oven", {"output": tmp_path}, result="loaf", placement=Placement(nodes=2))
    assert list(tmp_path.iterdir()) == []


def test_a_trainjob_that_fails_is_an_error_that_says_how_to_go_on_and_its_account_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(launcher: Launcher) -> None:
        assert (launcher.launch.name, launcher.launch.namespace) == ("nextpage-baking-f00d", "shop")
        raise TrainJobFailed("TrainJob shop/nextpage-baking-f00d-1 failed, FailedJobs", "# It failed\n\n## Events\n")

    (tmp_path / "namespace").write_text("shop\n")
    monkeypatch.setattr(processes, "NAMESPACE", tmp_path / "namespace")
    monkeypatch.setattr("serving.rollout.cluster.connect", lambda *_, **__: None)
    monkeypatch.setattr(Launcher, "run", fail)
    told = {"dough": tmp_path / "namespace", "output": tmp_path / "claim" / "f00d"}
    with pytest.raises(RuntimeError, match=r"baking: TrainJob .* failed, FailedJobs; run the step again to go on"):
        run_processes("baking", "bakery.oven", told, result="loaf", placement=Placement(nodes=2))
    assert (tmp_path / "claim" / "f00d" / "failure.md").read_text() in capsys.readouterr().out


def test_a_work_folder_is_named_by_what_the_inputs_hold_and_by_nothing_else(tmp_path: Path) -> None:
    def named(**contents: str) -> Path:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for name, content in contents.items():
            (folder / name).write_text(content)
        return work_folder(Path("checkpoints"), sorted(folder.iterdir()))

    first = named(a="dough", b="oven")
    assert first.parent == Path("checkpoints")
    assert named(c="dough", d="oven") == first
    assert len({first, named(a="dough", b="stove"), named(a="oven", b="dough"), named(a="dough")}) == 4


def test_a_table_that_an_engine_wrote_as_a_folder_counts_by_its_files(tmp_path: Path) -> None:
    (tmp_path / "training.parquet").mkdir()
    part = tmp_path / "training.parquet" / "part-0.parquet"
    named = []
    for content in ("rows", "other rows", "rows"):
        part.write_text(content)
        named.append(work_folder(Path("checkpoints"), [tmp_path / "training.parquet"]))
    assert named[0] == named[2] != named[1]
