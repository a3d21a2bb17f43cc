"""What images hold and how they run, read from their Dockerfiles."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from images.build import FAMILIES
from tests.images.dockerfiles import ROOT, Stage, lineage, read

LABELS = ("title", "source", "documentation", "licenses", "revision", "version", "base.name", "base.digest")


@pytest.fixture(params=FAMILIES)
def image(request: pytest.FixtureRequest) -> list[Stage]:
    """The stages whose layers an image holds."""
    return lineage(read(FAMILIES[request.param])[1], request.param)


def said(image: list[Stage], keyword: str) -> str:
    return " ".join(rest for stage in image for rest in stage.said(keyword))


@pytest.mark.parametrize("family", sorted(set(FAMILIES.values())))
def test_the_linter_finds_nothing(family: str) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint is not None
    done = subprocess.run([hadolint, ROOT / family / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("family", sorted(set(FAMILIES.values())))
def test_every_base_is_pinned_by_a_digest_that_must_be_given(family: str) -> None:
    before, stages = read(family)
    given = {rest for word, rest in before if word == "ARG"}
    assert not any("=" in name for name in given), "a default would move unseen"
    for stage in stages.values():
        if stage.base not in (*stages, "scratch"):
            name, digest = re.fullmatch(r"\$\{(\w+)}@\$\{(\w+)}", stage.base).groups()
            assert digest == f"{name}_DIGEST"
            assert {name, digest} <= given


def test_families_build_environments_alike() -> None:
    components, serving = (read(family)[1] for family in ("components", "serving"))
    assert components["builder"] == serving["builder"]
    assert components["runtime"].said("LABEL") == serving["runtime"].said("LABEL")


def test_an_image_runs_as_a_user_who_owns_nothing_in_it(image: list[Stage]) -> None:
    assert image[-1].instructions[-1] == ("USER", "65532:65532")
    assert all("--chown" not in copied for stage in image for copied in stage.said("COPY"))
    assert "useradd --uid 65532 --gid 65532" in said(image, "RUN")


def test_an_image_holds_neither_compilers_nor_what_brings_them(image: list[Stage]) -> None:
    assert not re.search(r"\b(apt|apt-get|pip|uv|curl|wget|gcc|make)\b", said(image, "RUN"))
    assert all(copied.startswith("--from=") for copied in image[-1].said("COPY"))


def test_what_an_image_writes_goes_to_tmp(image: list[Stage]) -> None:
    written = re.findall(r"(\w+)=(/\S+)", said(image, "ENV"))
    folders = {name: path for name, path in written if name == "HOME" or name.endswith(("_CACHE_HOME", "DIR", "_HOME"))}
    folders.pop("JAVA_HOME", None)
    assert {"HOME", "XDG_CACHE_HOME", "TRITON_CACHE_DIR"} <= set(folders)
    assert all(path.startswith("/tmp") for path in folders.values()), folders
    assert said(image, "WORKDIR").split()[-1] == "/tmp"
    assert "PYTHONSAFEPATH=1" in said(image, "ENV"), "a module in /tmp would be imported in place of ours"


def test_an_image_says_what_it_is_made_of(image: list[Stage]) -> None:
    labels = said(image, "LABEL")
    for label in LABELS:
        assert f"org.opencontainers.image.{label}=" in labels
    assert any("/opt/sbom.json /opt/nextpage/sbom.json" in copied for copied in image[-1].said("COPY"))


def test_an_image_ends_on_a_signal_that_is_handled_and_one_that_serves_tells_its_health(image: list[Stage]) -> None:
    assert said(image, "STOPSIGNAL") == "SIGTERM"
    serves = image[-1].name.startswith("serve")
    assert bool(said(image, "HEALTHCHECK")) == bool(said(image, "ENTRYPOINT")) == serves


@pytest.mark.parametrize("family", sorted(set(FAMILIES.values())))
def test_nothing_is_fetched_by_address_and_nothing_secret_is_built_in(family: str) -> None:
    before, stages = read(family)
    words = [*before, *(instruction for stage in stages.values() for instruction in stage.instructions)]
    assert "ADD" not in {word for word, _ in words}
    named = " ".join(rest for word, rest in words if word in ("ARG", "ENV"))
    assert not re.search(r"(?i)token|password|secret|credential", named)


@pytest.mark.parametrize("family", sorted(set(FAMILIES.values())))
def test_what_a_build_copies_from_the_checkout_is_let_through(family: str) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    through = {line[1:] for line in ignored if line.startswith("!")}
    for stage in read(family)[1].values():
        for copied in stage.said("COPY"):
            if not copied.startswith("--from="):
                *sources, _ = copied.split()
                assert set(sources) <= through
                assert all((ROOT / source).exists() for source in sources)
