"""The build, with engines that only write down what they are told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from components.images import TAG
from images.build import ENGINES, FAMILIES, main
from tests.images.dockerfiles import ROOT

BASE = f"sha256:{'12' * 32}"
PUSHED = f"sha256:{'ab' * 32}"
ENGINE = f"""#!/bin/sh
echo "$*" >> "$0.log"
case $1-$2 in
    push---digestfile=*) echo {PUSHED} > "${{2#*=}}" ;;
    image-inspect) echo "[\\"other.example.com/x@sha256:00\\", \\"${{4%:*}}@{PUSHED}\\"]" ;;
esac
"""


@pytest.fixture
def bases(tmp_path: Path) -> Path:
    path = tmp_path / "bases.yaml"
    path.write_text("".join(f'{name}: {{image: "{name}:1", digest: "{BASE}"}}\n' for name in ("python", "java")))
    return path


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """By engine, the file where it writes what it was told."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ENGINES:
        (folder / name).write_text(ENGINE)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return {name: folder / f"{name}.log" for name in ENGINES}


def commands(log: Path) -> list[list[str]]:
    return [line.split() for line in log.read_text().splitlines()]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_push_leaves_every_image_s_digest_as_values_of_the_chart(
    engine: str, told: dict[str, Path], bases: Path, tmp_path: Path
) -> None:
    registry = "127.0.0.1:5000/team"
    main(["--engine", engine, "--bases", str(bases), "--registry", registry, "--output", str(tmp_path)])
    names = {"control", "data", "train", "serve", "serveCuda"}
    images = yaml.safe_load((tmp_path / "digests.yaml").read_text())["images"]
    assert images == {"registry": registry, **{name: {"digest": PUSHED} for name in names}}
    built = [command for command in commands(told[engine]) if command[0] == "build"]
    for name, family in FAMILIES.items():
        image, bill = ([c for c in built if f"--target={name}{end}" in c] for end in ("", "-sbom"))
        assert f"--tag={registry}/{name}:{TAG}" in image[0]
        assert f"--output=type=local,dest={tmp_path / name}" in bill[0]
        assert f"--file={ROOT / family / 'Dockerfile'}" in image[0]
        assert {f"--build-arg=PYTHON_DIGEST={BASE}", "--build-arg=PYTHON=python:1"} <= set(image[0]) & set(bill[0])
        assert any(part.startswith("--build-arg=REVISION=") and len(part) > 40 for part in image[0])
        assert ("--format=docker" in image[0]) == (engine != "docker"), "OCI's format drops HEALTHCHECK"


def test_without_a_registry_images_stay_here_by_tag_and_no_digest_is_claimed(
    told: dict[str, Path], bases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://pypi.example.com/simple")
    main(["--engine", "podman", "--bases", str(bases), "--output", str(tmp_path), "--torch=cpu"])
    assert {command[0] for command in commands(told["podman"])} == {"build"}
    assert {"--build-arg=TORCH=cpu", "--build-arg=UV_DEFAULT_INDEX=https://pypi.example.com/simple"} <= set(
        commands(told["podman"])[0]
    )
    assert not any("serve-cuda" in part for command in commands(told["podman"]) for part in command)
    assert not (tmp_path / "digests.yaml").exists()


def test_a_base_without_a_digest_is_refused_before_anything_is_built(
    told: dict[str, Path], bases: Path, tmp_path: Path
) -> None:
    bases.write_text(bases.read_text().replace(BASE, "", 1))
    with pytest.raises(SystemExit, match=r"no digest of python \(python:1\): run `make images-pin`"):
        main(["--engine", "docker", "--bases", str(bases), "--output", str(tmp_path)])
    assert not told["docker"].exists()


def test_steps_are_named_by_the_digests_that_were_pushed(told: dict[str, Path], bases: Path, tmp_path: Path) -> None:
    registry = "registry.example.com/team"
    main(["--engine", "docker", "--bases", str(bases), "--registry", registry, "--output", str(tmp_path)])
    assert named(tmp_path / "digests.yaml").stdout.split() == [
        f"{registry}/{name}@{PUSHED}" for name in ("control", "data", "train")
    ]


def test_a_file_of_a_part_of_the_images_pins_no_pipeline(told: dict[str, Path], bases: Path, tmp_path: Path) -> None:
    main(["--engine", "docker", "--bases", str(bases), "--registry", "r/x", "--output", str(tmp_path), "control"])
    refused = named(tmp_path / "digests.yaml")
    assert refused.returncode
    assert "has no image 'data': push all of them, make images REGISTRY=r/x" in refused.stderr


def named(digests: Path) -> subprocess.CompletedProcess[str]:
    """What a process that compiles pipelines calls the images."""
    return subprocess.run(
        [sys.executable, "-c", "from components.images import *; print(CONTROL, DATA, TRAIN)"],
        env={**os.environ, "NEXTPAGE_DIGESTS": str(digests)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
