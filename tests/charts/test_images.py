"""The digest file of `make images`, as values of the chart and as pins of the pipelines in it."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from components.images import CONTROL, DATA, TAG, TRAIN
from images.build import FAMILIES, as_values
from tests.charts.rendering import Case, run

ROOT = Path(__file__).parents[2]
REGISTRY = "registry.example.com:5000/team"
DIGESTS = {name: f"sha256:{place:064x}" for place, name in enumerate(FAMILIES)}
RELEASE = {
    "name": "shop-1",
    "storageUri": "s3://models/shop-1",
    "hash": "ab",
    "featureService": {"name": "f", "hash": "c"},
}


@pytest.fixture(scope="module")
def pinned(chart: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The digest file, and a chart whose pipelines were compiled with it."""
    folder = tmp_path_factory.mktemp("images")
    digests = folder / "digests.yaml"
    digests.write_text(as_values(REGISTRY, DIGESTS, "0123"))
    subprocess.run(["cp", "-r", str(chart), str(folder / "nextpage")], check=True)
    subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "compile", f"--output={folder}/nextpage/files/pipelines"],
        env={**os.environ, "NEXTPAGE_DIGESTS": str(digests)},
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    return digests, folder / "nextpage"


def images(text: str) -> set[str]:
    """Our images in what Helm renders, those inside uploaded pipelines included."""
    return {found for found in re.findall(r"image: \"?([^\s\"]+)", text) if "redis" not in found}


@pytest.mark.parametrize("install", ["resources", "upload"])
def test_with_the_digest_file_every_pod_and_every_step_is_pinned(pinned: tuple[Path, Path], install: str) -> None:
    digests, chart = pinned
    values = {
        "pipelines": {"install": install},
        "images": {"redis": {"digest": f"sha256:{'12' * 32}"}},
        "featureStore": {"registrySecret": "feast"},
        "serving": {"owner": "chart", "releases": {"control": RELEASE}},
    }
    case = Case(name="pinned", presets=("gpu",), values=values)
    found = images(run(chart, case, "template", extra=(f"--values={digests}",)))
    assert found == {f"{REGISTRY}/{name}@{digest}" for name, digest in DIGESTS.items()}


def test_images_of_pinned_pipelines_move_to_another_registry(pinned: tuple[Path, Path]) -> None:
    digests, chart = pinned
    case = Case(name="moved", values={"images": {"registry": "registry.internal/nextpage"}})
    found = images(run(chart, case, "template", extra=(f"--values={digests}",)))
    assert found <= {f"registry.internal/nextpage/{name}@{digest}" for name, digest in DIGESTS.items()}


def test_without_a_digest_file_pods_and_steps_name_the_same_tags(chart: Path) -> None:
    found = images(run(chart, Case(name="tags", values={"featureStore": {"registrySecret": "feast"}}), "template"))
    assert {CONTROL, DATA, TRAIN} <= found
    assert {name.rpartition(":")[2] for name in found} == {TAG}


def test_the_tag_is_of_the_version_that_the_project_and_its_chart_have() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((ROOT / "charts" / "nextpage" / "Chart.yaml").read_text())
    assert [chart["appVersion"], TAG] == [version, f"{version}-python3.11"]
