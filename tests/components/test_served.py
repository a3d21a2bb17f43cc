"""The release that serves is found and checked; that there is none is no failure."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from kfp import dsl, local

from components.deploy.storage import published
from components.served.component import served
from components.served.step import Served, bring
from nextpage.release import ReleaseRefused, read_manifest
from serving.rollout.release import Release
from serving.rollout.state import Phase, State
from tests.components.rollouts import a_sealed_release

ROLLOUT = "{records: r, storage: 'r/{hash}', events: e}"


@pytest.fixture
def uri(tmp_path: Path) -> str:
    manifest = a_sealed_release(tmp_path / "made", "shop")
    return published(tmp_path / "made", manifest, f"file://{tmp_path}/models/{{name}}")


def brought(folder: Path, **where: str) -> Served:
    asked = {"release": "", "rollout": "", "settings": ""} | where
    return bring(folder / "release", recipe=folder / "recipe.yaml", **asked)


def test_a_release_is_brought_from_storage_or_a_path_with_its_recipe(tmp_path: Path, uri: str) -> None:
    for place in (uri, str(tmp_path / "made")):
        found = brought(tmp_path / place.rpartition("/")[2], release=place)
        assert (found.found, found.moving) == (True, False)
        folder = tmp_path / place.rpartition("/")[2]
        assert read_manifest(folder / "release") == read_manifest(tmp_path / "made")
        assert (folder / "recipe.yaml").read_text() == "name: tiny\n"


def test_a_changed_byte_and_storage_that_cannot_be_read_are_refused(tmp_path: Path, uri: str) -> None:
    (tmp_path / uri.removeprefix("file://") / "weights.safetensors").write_text("others")
    with pytest.raises(ReleaseRefused):
        brought(tmp_path, release=uri)
    with pytest.raises(ValueError, match="oci://models/shop cannot be read from here: name a copy by file://, s3://"):
        brought(tmp_path, release="oci://models/shop")


def test_the_rollout_says_which_one_serves_and_whether_another_comes_up(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stable = Release(name=uri.rpartition("/")[2], storage_uri=uri, hash="a" * 64)
    coming = Release(name="r2", storage_uri="oci://models/r2", hash="b" * 64)
    for state, found, moving in (
        (State(strategy="local"), False, False),
        (State(strategy="local", stable=stable), True, False),
        (State(strategy="local", stable=stable, candidate=coming, phase=Phase.RAMPING, percent=5), True, True),
    ):
        there = SimpleNamespace(state=lambda state=state: state)
        monkeypatch.setattr("components.served.step.open_rollout", lambda config, there=there: there)
        brought_here = brought(tmp_path / f"{found}{moving}", rollout=ROLLOUT)
        assert (brought_here.found, brought_here.moving) == (found, moving)
        assert ("Another one is being rolled out" in brought_here.said) is moving


@dsl.pipeline(name="finding")
def finding() -> bool:
    return served().outputs["Output"]


def test_that_none_serves_is_said_and_fails_nothing(tmp_path: Path) -> None:
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path), raise_on_error=True)
    assert finding().output is False
    (card,) = tmp_path.glob("*/served/card")
    assert "No release is watched: name it by `release`" in card.read_text()
