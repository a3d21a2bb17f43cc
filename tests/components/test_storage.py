"""Releases where servers find them. pyarrow's S3 client writes; a server of a hundred lines stands in for S3 itself."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.deploy.storage import label, published
from nextpage.release import MANIFEST, verify
from tests.components.rollouts import a_sealed_release
from tests.components.s3_server import Bucket, s3_server

STORAGE = "s3://models/releases/{name}"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with s3_server() as (address, bucket):
        told = {"AWS_ENDPOINT_URL": address, "AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "us-east-1"}
        for name, value in (told | {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}).items():
            monkeypatch.setenv(name, value)
        yield bucket


def test_a_release_is_written_to_s3_once_its_manifest_last(tmp_path: Path, bucket: Bucket) -> None:
    manifest = a_sealed_release(tmp_path / "r1", "r1")
    uri = published(tmp_path / "r1", manifest, STORAGE)
    name = label(manifest)
    assert uri == f"s3://models/releases/{name}"
    expected = {
        f"releases/{name}/{path}": (tmp_path / "r1" / path).read_bytes() for path in (*manifest.files, MANIFEST)
    }
    assert bucket.objects == expected
    assert list(bucket.objects)[-1] == f"releases/{name}/{MANIFEST}"
    bucket.dies_after = 0
    assert published(tmp_path / "r1", manifest, STORAGE) == uri
    other = a_sealed_release(tmp_path / "other", "other")
    with pytest.raises(ValueError, match="holds another release"):
        published(tmp_path / "other", other, f"s3://models/releases/{name}")


def test_a_release_whose_upload_broke_off_is_not_there_and_is_finished_by_the_next(
    tmp_path: Path, bucket: Bucket
) -> None:
    manifest = a_sealed_release(tmp_path / "r1", "r1")
    bucket.dies_after = 2
    with pytest.raises(OSError, match="ACCESS_DENIED"):
        published(tmp_path / "r1", manifest, STORAGE)
    assert len(bucket.objects) == 2
    bucket.dies_after = 1_000
    published(tmp_path / "r1", manifest, STORAGE)
    assert len(bucket.objects) == len(manifest.files) + 1


def test_a_release_lies_under_its_own_name_and_no_other_takes_its_place(tmp_path: Path) -> None:
    manifest = a_sealed_release(tmp_path / "r2", "r2")
    storage = f"file://{tmp_path}/models/{{name}}"
    uri = published(tmp_path / "r2", manifest, storage)
    assert uri == f"file://{tmp_path}/models/{label(manifest)}"
    lies = tmp_path / "models" / label(manifest)
    assert verify(lies) == manifest
    before = (lies / MANIFEST).stat().st_mtime_ns
    assert published(tmp_path / "r2", manifest, storage) == uri
    assert (lies / MANIFEST).stat().st_mtime_ns == before
    (lies / MANIFEST).write_text("{}")
    with pytest.raises(ValueError, match="holds another release"):
        published(tmp_path / "r2", manifest, storage)


@pytest.mark.parametrize(("name", "said"), [("Week 12, final!", "week-12-final"), ("12", "r-12"), ("x" * 60, "x" * 24)])
def test_a_name_for_people_becomes_one_for_a_cluster(tmp_path: Path, name: str, said: str) -> None:
    manifest = a_sealed_release(tmp_path / "r", name)
    assert label(manifest) == f"{said}-{manifest.hash[:8]}"


def test_engines_beside_a_release_are_written_with_it(tmp_path: Path) -> None:
    manifest = a_sealed_release(tmp_path / "r3", "r3")
    (tmp_path / "r3" / "engines" / "onnx.x").mkdir(parents=True)
    (tmp_path / "r3" / "engines" / "onnx.x" / "key.json").write_text("{}")
    uri = published(tmp_path / "r3", manifest, f"file://{tmp_path}/models/{{name}}")
    lies = Path(uri.removeprefix("file://"))
    assert (lies / "engines" / "onnx.x" / "key.json").read_text() == "{}"
    assert verify(lies) == manifest
