"""What each image installs is enough for what it runs, and all of it is pinned. `make images-check` installs all."""

import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from images.build import FAMILIES
from images.check import NEVER_CALLED, extras, import_all, install, started
from images.imports import reached
from tests.images.dockerfiles import ROOT


@pytest.fixture(scope="session")
def sets() -> dict[str, set[str]]:
    """The distributions of each image."""
    return {image: resolved(extras(image)) for image in FAMILIES}


def resolved(chosen: list[str]) -> set[str]:
    """As uv finds them in the index, whose PyTorch brings CUDA."""
    options = ["--quiet", "--no-header", "--no-annotate", "--system-certs", "--constraint", "constraints.txt"]
    options += [f"--default-index={place}" for place in os.environ.get("PIP_INDEX_URL", "").split()]
    asked = [part for extra in chosen for part in ("--extra", extra)]
    uv = [sys.executable, "-m", "uv", "pip", "compile", *options, "pyproject.toml", *asked]
    done = subprocess.run(uv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name(line) for line in done.stdout.splitlines()}


def name(requirement: str) -> str:
    """A distribution's name, as it is compared."""
    return re.sub(r"[-_.]+", "-", re.split(r"[=<>\[ ;]", requirement)[0]).lower()


@pytest.mark.parametrize("image", FAMILIES)
def test_everything_an_image_installs_is_pinned(image: str, sets: dict[str, set[str]]) -> None:
    pins = {name(line) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert sets[image] <= pins


@pytest.mark.parametrize("image", FAMILIES)
def test_an_image_installs_whatever_its_steps_and_servers_import(image: str, sets: dict[str, set[str]]) -> None:
    _, imported = reached(started(image), NEVER_CALLED.get(image, set()))
    assert imported
    known = packages_distributions()
    missing = {
        package: module
        for package, module in imported.items()
        if not sets[image] & {name(distribution) for distribution in known.get(package, [package])}
    }
    assert not missing


def test_every_step_names_the_image_it_runs_in() -> None:
    steps = {f"components.{path.parent.name}.component" for path in (ROOT / "components").glob("*/component.py")}
    named = [step for image in ("control", "data", "train") for step in started(image) if step in steps]
    assert set(named) == steps


def test_what_decides_and_acts_carries_no_pytorch_and_what_serves_on_cpus_no_tensorrt(
    sets: dict[str, set[str]],
) -> None:
    assert "torch" not in sets["control"]
    assert "tensorrt-rtx-cu13-libs" in (sets["serve-cuda"] & sets["train"]) - sets["serve"]


def test_the_smallest_set_installs_by_itself_and_imports_what_it_runs(tmp_path: Path) -> None:
    install("control", tmp_path / "venv")
    assert import_all("control", tmp_path / "venv") == ""
    assert "No module named 'torch'" in import_all("train", tmp_path / "venv"), "a set that lacks a package is found"
