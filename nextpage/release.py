"""A release: one folder that holds all a server needs, under one hash.

| file | what |
|---|---|
| `manifest.json` | name, creation time, the hash of every file and of the whole, the feature service it reads |
| `recipe.yaml` | the resolved recipe |
| `decoder.json`, `weights.safetensors` | the model |
| `semantic_ids.parquet`, `items.parquet` | the item table, both in row order: codes; text, attributes and orders |
| `tokenizer/` | what gives new items their codes |
| `alignment.json` | how it was aligned, and the gate's verdict (absent in a base) |
| `metrics.json`, `card.md` | how good it is (absent in a candidate) |
| `rule.yaml` | by what its users decide on it (absent where the recipe has no `experiment`) |
| `engines/` | built from it after it was sealed, each under a key of its own (`decoding/engines/engine_folder.py`) |

Safetensors, Parquet, YAML and JSON only: opening a release runs no code of it.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

MANIFEST = "manifest.json"
ENGINES = "engines"


class ReleaseRefused(RuntimeError):
    """The folder is not the release that its manifest describes; the message names the file."""


@dataclass(frozen=True, kw_only=True)
class FeatureService:
    """The Feast feature service whose features the model was trained on."""

    name: str
    hash: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a sealed folder says of itself. `hash` is over `files`, names and hashes, and the fields before it."""

    name: str
    created: str
    recipe: str
    feature_service: FeatureService
    files: dict[str, str]  # relative path → SHA-256
    hash: str = ""

    def content_hash(self) -> str:
        content = asdict(self) | {"hash": ""}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def seal(folder: Path, *, name: str, recipe: str, feature_service: FeatureService) -> Manifest:
    """Write the manifest over the files as they stand; from now on a changed byte is refused."""
    manifest = Manifest(
        name=name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=recipe,
        feature_service=feature_service,
        files={path: _sha256(folder / path) for path in _files(folder)},
    )
    manifest = Manifest(**{**vars(manifest), "hash": manifest.content_hash()})
    partial = folder / f".{MANIFEST}.partial"
    partial.write_text(json.dumps(asdict(manifest), indent=1))
    partial.replace(folder / MANIFEST)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest alone, unchecked; `verify` is what a server calls."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ReleaseRefused(f"{folder} is no release: it has no {MANIFEST}")
    try:
        raw = json.loads(path.read_text())
        return Manifest(**{**raw, "feature_service": FeatureService(**raw["feature_service"])})
    except (ValueError, TypeError, KeyError) as error:
        raise ReleaseRefused(f"{path} cannot be read as a manifest ({error}): fetch the release again") from error


def verify(folder: Path) -> Manifest:
    """The manifest, once every file has been held against it. Raises ReleaseRefused with the file's name.

    `engines/` is passed over: an engine that is not this release's is refused by its key when it is opened, and the
    release serves without it.
    """
    manifest = read_manifest(folder)
    if manifest.content_hash() != manifest.hash:
        raise ReleaseRefused(f"{folder / MANIFEST} does not match its own hash: it was edited after the release")
    found = set(_files(folder))
    for path in sorted(found - set(manifest.files)):
        raise ReleaseRefused(f"{path} is no file of release {manifest.name!r}: does it come from another one?")
    for path, expected in manifest.files.items():
        if path not in found:
            raise ReleaseRefused(f"{path} of release {manifest.name!r} is missing: fetch the release again")
        if _sha256(folder / path) != expected:
            raise ReleaseRefused(f"{path} is not the file that release {manifest.name!r} was sealed with")
    return manifest


def file_hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file below a folder by its path there, hidden ones left out."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in files}


def _files(folder: Path) -> list[str]:
    """What a release is made of."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    paths = (path.relative_to(folder) for path in files if path.name != MANIFEST)
    return sorted(path.as_posix() for path in paths if path.parts[0] != ENGINES)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
