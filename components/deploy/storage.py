"""A release's bytes where servers find them, under a name that is its own for ever."""

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from nextpage.release import ENGINES, MANIFEST, Manifest, file_hashes, verify

if TYPE_CHECKING:
    from pyarrow import fs

WRITTEN = ("file://", "s3://", "gs://")
LONGEST = 24
BLOCK = 8 << 20  # bytes


def label(manifest: Manifest) -> str:
    """The release's name in a cluster, a DNS label: its own and the beginning of its hash. Runs may share a name,
    releases may not."""
    said = re.sub(r"[^a-z0-9]+", "-", manifest.name.lower()).strip("-")[:LONGEST].strip("-")
    return f"{said if said[:1].isalpha() else 'r-' + said}".rstrip("-") + f"-{manifest.hash[:8]}"


def published(release: Path, manifest: Manifest, storage: str) -> str:
    """The URI of the release, once its bytes and its engines lie there. The manifest is written last, so that one which
    is there says that all the rest is; a release that lies there already is left alone."""
    uri = storage.format(name=label(manifest), hash=manifest.hash)
    if not uri.startswith(WRITTEN):
        return uri
    from pyarrow import fs

    target, root = fs.FileSystem.from_uri(uri)
    (there,) = target.get_file_info([f"{root}/{MANIFEST}"])
    if there.type == fs.FileType.File:
        with target.open_input_stream(there.path) as found:
            if found.read() != (release / MANIFEST).read_bytes():
                raise ValueError(f"{uri} holds another release than {manifest.name!r}: put {{hash}} into the storage")
        return uri
    engines = (f"{ENGINES}/{path}" for path in file_hashes(release / ENGINES))
    for path in (*manifest.files, *engines, MANIFEST):
        _write(release / path, target, f"{root}/{path}")
    return uri


def _write(source: Path, target: "fs.FileSystem", path: str) -> None:
    """All of a file or nothing: an object appears when its upload is complete. pyarrow's `copy_files` ignores one that
    fails; closing a stream does not."""
    from pyarrow import fs

    if isinstance(target, fs.LocalFileSystem):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, partial := Path(f"{path}.partial"))
        partial.replace(path)
        return
    with source.open("rb") as read, target.open_output_stream(path) as written:
        shutil.copyfileobj(read, written, BLOCK)


def fetched(uri: str, folder: Path) -> Manifest:
    """Copy the release at `uri` (what `published` writes, or a path) into `folder` and check every byte of it.

    Raises ValueError for a place that cannot be read from here, ReleaseRefused where a byte is not as it was sealed.
    """
    from pyarrow import fs

    if "://" in uri and not uri.startswith(WRITTEN):
        raise ValueError(f"release {uri} cannot be read from here: name a copy by {', '.join(WRITTEN)} or a path")
    source, root = fs.FileSystem.from_uri(uri if "://" in uri else str(Path(uri).absolute()))
    folder.mkdir(parents=True, exist_ok=True)
    fs.copy_files(root, str(folder), source, fs.LocalFileSystem())
    return verify(folder)
