import shutil
from pathlib import Path

import pytest

from tests.charts.cases import CASES
from tests.charts.helm import PACKAGES, Unreachable, tools
from tests.charts.rendering import Manifest, render

SOURCE = Path(__file__).resolve().parents[2] / "charts" / "nextpage"


@pytest.fixture(scope="session")
def helms() -> tuple[int, ...]:
    """The major versions of Helm that are here."""
    try:
        for major in PACKAGES:
            tools(major)
    except Unreachable as reason:
        pytest.skip(f"no Helm: {reason}")
    return tuple(PACKAGES)


@pytest.fixture(scope="session")
def chart(helms: tuple[int, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart with the pipelines of this checkout, as `make chart` puts them there."""
    from pipelines.compiler import compile_pipelines

    folder = tmp_path_factory.mktemp("charts") / "nextpage"
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("pipelines"))
    shutil.copytree(SOURCE / "templates" / "pipelines", folder / "templates" / "pipelines")
    compile_pipelines(folder / "files" / "pipelines")
    return folder


@pytest.fixture(scope="session")
def rendered(chart: Path) -> dict[str, list[Manifest]]:
    """Every case's objects."""
    return {case.name: render(chart, case) for case in CASES}
