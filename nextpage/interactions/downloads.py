"""Data sets from their public addresses: checked, whole, and fetched once."""

import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from nextpage.progress import bar

CHUNK = 1 << 20


def fetch(url: str, checksum: str, folder: Path) -> Path:
    """The file of `url` in `folder`, under the last part of its address; a right one that is there is kept.

    `checksum` is `sha256:<hex>` or `md5:<hex>` as its publisher gives it (a bare hex is SHA-256). The file appears
    only when it is whole and right. Raises ValueError on a mismatch and ConnectionError when the address gives none.
    """
    kind, _, expected = checksum.rpartition(":")
    kind = kind or "sha256"
    if kind not in ("sha256", "md5"):
        raise ValueError(f"checksum kind {kind!r} of {url} is unknown: use sha256 or md5")
    path = folder / url.rsplit("/", 1)[-1]
    if path.exists():
        with path.open("rb") as file:
            if hashlib.file_digest(file, kind).hexdigest() == expected:
                return path
    folder.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=folder, prefix=f".{path.name}-", delete=False) as partial:
        try:
            digest = _download(url, kind, partial)
            if digest != expected:
                raise ValueError(
                    f"{url} has {kind} {digest}, expected {expected}: try again, and if it stays so, the file "
                    "was changed at its source; do not use it"
                )
            partial.close()
            os.replace(partial.name, path)
        finally:
            Path(partial.name).unlink(missing_ok=True)
    return path


def _download(url: str, kind: str, into: IO[bytes]) -> str:
    digest = hashlib.new(kind)
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            size = answer.headers.get("Content-Length")
            with bar(total=int(size) if size else None, unit="B", title=url.rsplit("/", 1)[-1]) as moving:
                while chunk := answer.read(CHUNK):
                    into.write(chunk)
                    digest.update(chunk)
                    moving.update(len(chunk))
    except (urllib.error.URLError, TimeoutError) as error:
        raise ConnectionError(
            f"{url} could not be fetched ({error}): without a way out, put the file into the folder by hand"
        ) from error
    return digest.hexdigest()
