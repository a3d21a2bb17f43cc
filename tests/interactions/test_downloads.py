import hashlib
from pathlib import Path

import pytest

from nextpage.interactions.downloads import fetch

CONTENT = b"ratings " * 1000


@pytest.fixture
def address(tmp_path: Path) -> str:
    source = tmp_path / "public" / "data.zip"
    source.parent.mkdir()
    source.write_bytes(CONTENT)
    return source.as_uri()


@pytest.mark.parametrize("kind", ["", "sha256:", "md5:"])
def test_a_file_with_the_right_checksum_arrives(address: str, tmp_path: Path, kind: str) -> None:
    digest = hashlib.new(kind.strip(":") or "sha256", CONTENT).hexdigest()
    path = fetch(address, kind + digest, tmp_path / "data")
    assert path == tmp_path / "data" / "data.zip"
    assert path.read_bytes() == CONTENT


def test_a_mismatch_names_address_and_both_checksums_and_leaves_nothing(address: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.zip has md5 .*, expected 0123: .*do not use it"):
        fetch(address, "md5:0123", tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_a_right_file_is_not_fetched_again_and_a_wrong_one_is_replaced(address: str, tmp_path: Path) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    path = fetch(address, digest, tmp_path / "data")
    path.write_bytes(b"cut off")
    assert fetch(address, digest, tmp_path / "data").read_bytes() == CONTENT
    (tmp_path / "public" / "data.zip").unlink()
    assert fetch(address, digest, tmp_path / "data").read_bytes() == CONTENT


def test_a_mismatch_keeps_the_file_that_was_there(address: str, tmp_path: Path) -> None:
    there = tmp_path / "data" / "data.zip"
    there.parent.mkdir()
    there.write_bytes(b"older")
    with pytest.raises(ValueError, match="expected 0123"):
        fetch(address, "0123", there.parent)
    assert there.read_bytes() == b"older"


def test_an_address_that_gives_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match=r"nowhere\.zip could not be fetched"):
        fetch((tmp_path / "nowhere.zip").as_uri(), "0123", tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_an_unknown_kind_of_checksum_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="checksum kind 'crc32'"):
        fetch(address, "crc32:0123", tmp_path)
