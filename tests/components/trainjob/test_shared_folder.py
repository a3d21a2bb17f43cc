"""Inputs come whole to where all nodes see them."""

import shutil
from pathlib import Path

import pytest

from components.trainjob import shared_folder
from components.trainjob.shared_folder import share


@pytest.fixture
def told(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "training.parquet").write_text("histories")
    (tmp_path / "recipe.yaml").write_text("name: tiny")
    folders = {"features": tmp_path / "features", "recipe": tmp_path / "recipe.yaml"}
    return folders | {"output": tmp_path / "claim" / "f00d"}


def test_files_and_folders_are_copied_beside_the_output(told: dict[str, Path]) -> None:
    shared = share(told)
    assert shared["output"] == told["output"]
    assert all(path.is_relative_to(told["output"]) for path in shared.values())
    assert (shared["features"] / "training.parquet").read_text() == "histories"
    assert shared["recipe"].read_text() == "name: tiny"


def test_a_copy_that_was_cut_short_is_made_anew_and_a_whole_one_is_kept(
    told: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_short(source: Path, target: Path) -> None:
        target.mkdir()
        (target / "training.parquet").write_text("hist")
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(shared_folder.shutil, "copytree", cut_short)
        with pytest.raises(OSError, match="no space"):
            share(told)
    assert (share(told)["features"] / "training.parquet").read_text() == "histories"
    shutil.rmtree(told["features"])  # so that it could not be copied again
    assert (share(told)["features"] / "training.parquet").read_text() == "histories"
