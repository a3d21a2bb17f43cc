"""A sealed folder is that release or it is refused, with the file's name."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextpage.release import MANIFEST, FeatureService, Manifest, ReleaseRefused, read_manifest, seal, verify

FILES = {
    "weights.safetensors": b"\x00\x01weights",
    "recipe.yaml": b"name: genrec\n",
    "semantic_ids.parquet": b"PAR1",
    "tokenizer/vectors.safetensors": b"\x02\x03",
    "tokenizer/quality.json": b"{}",
}
SERVICE = FeatureService(name="recommender_r1", hash="f00d")


def write(folder: Path, files: dict[str, bytes] = FILES, name: str = "r1") -> Manifest:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return seal(folder, name=name, recipe="genrec", feature_service=SERVICE)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    write(tmp_path / "release")
    return tmp_path / "release"


def edit(release: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((release / MANIFEST).read_text())
    change(manifest)
    (release / MANIFEST).write_text(json.dumps(manifest))


def test_a_sealed_folder_is_what_its_manifest_says(tmp_path: Path) -> None:
    sealed = write(tmp_path)
    assert verify(tmp_path) == read_manifest(tmp_path) == sealed
    assert set(sealed.files) == set(FILES)
    assert (sealed.name, sealed.recipe, sealed.feature_service) == ("r1", "genrec", SERVICE)


def test_a_release_may_be_moved(release: Path, tmp_path: Path) -> None:
    before = verify(release)
    release.rename(tmp_path / "elsewhere")
    assert verify(tmp_path / "elsewhere") == before


@given(
    files=st.dictionaries(st.sampled_from(["a", "b.json", "tokenizer/a", "tokenizer/b/c"]), st.binary(), min_size=1),
    data=st.data(),
)
def test_any_changed_byte_in_any_file_is_refused_by_name(files: dict[str, bytes], data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(files)))
    content = data.draw(st.binary().filter(lambda other: other != files[path]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, files)
        verify(folder)
        (folder / path).write_bytes(content)
        with pytest.raises(ReleaseRefused, match=f"^{path} is not the file that release 'r1' was sealed with"):
            verify(folder)


@pytest.mark.parametrize("path", FILES)
def test_any_missing_file_is_refused_by_name(release: Path, path: str) -> None:
    (release / path).unlink()
    with pytest.raises(ReleaseRefused, match=f"^{path} of release 'r1' is missing"):
        verify(release)


@pytest.mark.parametrize("path", ["extra.bin", "tokenizer/extra.bin"])
def test_a_file_too_many_is_refused_by_name(release: Path, path: str) -> None:
    (release / path).write_bytes(b"")
    with pytest.raises(ReleaseRefused, match=f"^{path} is no file of release 'r1'"):
        verify(release)


@pytest.mark.parametrize("path", FILES)
def test_a_file_of_another_release_is_refused_by_name(release: Path, tmp_path: Path, path: str) -> None:
    write(tmp_path / "other", {name: content + b" of r2" for name, content in FILES.items()}, name="r2")
    shutil.copy2(tmp_path / "other" / path, release / path)
    with pytest.raises(ReleaseRefused, match=f"^{path} is not the file that release 'r1'"):
        verify(release)


def test_the_manifest_of_another_release_is_refused(release: Path, tmp_path: Path) -> None:
    write(tmp_path / "other", FILES | {"recipe.yaml": b"name: tiger\n"}, name="r2")
    shutil.copy2(tmp_path / "other" / MANIFEST, release / MANIFEST)
    with pytest.raises(ReleaseRefused, match=r"^recipe.yaml is not the file that release 'r2'"):
        verify(release)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.update(name="r2"),
        lambda manifest: manifest.update(created="2020-01-01T00:00:00+00:00"),
        lambda manifest: manifest.update(recipe="tiger"),
        lambda manifest: manifest["feature_service"].update(hash="beef"),
        lambda manifest: manifest["files"].update({"recipe.yaml": "0" * 64}),
        lambda manifest: manifest["files"].pop("recipe.yaml"),
        lambda manifest: manifest.update(hash="0" * 64),
        lambda manifest: manifest.pop("hash"),
    ],
)
def test_an_edited_manifest_is_refused(release: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit(release, change)
    with pytest.raises(ReleaseRefused, match=r"manifest.json does not match its own hash: it was edited"):
        verify(release)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"{}", b"\xff\xfe", b'{"name": "r1"}'])
def test_a_manifest_that_cannot_be_read_is_refused_by_name(release: Path, content: bytes) -> None:
    (release / MANIFEST).write_bytes(content)
    with pytest.raises(ReleaseRefused, match=r"manifest.json cannot be read as a manifest .*: fetch the release again"):
        verify(release)


@pytest.mark.parametrize("key", ["name", "files", "feature_service"])
def test_a_manifest_that_lacks_a_field_is_refused(release: Path, key: str) -> None:
    edit(release, lambda manifest: manifest.pop(key))
    with pytest.raises(ReleaseRefused, match=f"cannot be read as a manifest .*'{key}'"):
        verify(release)


def test_a_folder_without_a_manifest_is_no_release(release: Path, tmp_path: Path) -> None:
    (release / MANIFEST).unlink()
    for folder in (release, tmp_path / "absent"):
        with pytest.raises(ReleaseRefused, match=f"{folder} is no release: it has no manifest.json"):
            verify(folder)


def test_sealing_again_makes_a_release_of_the_files_as_they_now_stand(release: Path) -> None:
    before = verify(release)
    (release / "recipe.yaml").write_bytes(b"name: tiger\n")
    after = seal(release, name="r1", recipe="tiger", feature_service=SERVICE)
    assert verify(release) == after
    assert {path for path, digest in after.files.items() if before.files[path] != digest} == {"recipe.yaml"}
    assert after.hash != before.hash
