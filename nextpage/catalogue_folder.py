"""A catalogue folder: the items of a release as they are sold today, sealed, and replaced in place.

| file | what |
|---|---|
| `manifest.json` | the release that it belongs to, its counts, the hash of every file and of the whole |
| `items-….parquet`, `semantic_ids-….parquet` | the item table, both in row order |
| `departed-….parquet` | semantic IDs of items that left: histories still hold them |

Files bear their own hash in their names, and the manifest, which names them, is replaced last and in one move. So
whoever reads while a catalogue is written gets the old one or the new one, or a refusal and the new one when asked
again.
"""

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nextpage.decoding.served_catalogue import ServedCatalogue
from nextpage.release import MANIFEST
from nextpage.tokenizers.semantic_ids import SemanticIds


class CatalogueRefused(RuntimeError):
    """The folder holds no catalogue of this release, or not the one that its manifest describes."""


@dataclass(frozen=True, kw_only=True)
class CatalogueManifest:
    """What a catalogue folder says of itself. `hash` is over all but the time, so the same items have the same."""

    release: str  # hash of the release whose tokenizer gave the codes
    created: str
    items: int
    departed: int
    files: dict[str, str]  # items, semantic_ids, departed → SHA-256
    hash: str = ""

    def content_hash(self) -> str:
        return hashlib.sha256(
            json.dumps(asdict(self) | {"hash": "", "created": ""}, sort_keys=True).encode()
        ).hexdigest()

    def paths(self, folder: Path) -> dict[str, Path]:
        return {name: folder / f"{name}-{sha256[:16]}.parquet" for name, sha256 in self.files.items()}


def write_catalogue(
    folder: Path, *, release_hash: str, semantic_ids: SemanticIds, items: pa.Table, departed: SemanticIds
) -> CatalogueManifest:
    """Put a catalogue in the place of what the folder holds. For one writer at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / ".partial"
    files = {}
    for name in ("items", "semantic_ids", "departed"):
        if name == "items":
            pq.write_table(items, partial)
        else:
            (semantic_ids if name == "semantic_ids" else departed).write(partial)
        files[name] = hashlib.sha256(partial.read_bytes()).hexdigest()
        partial.replace(folder / f"{name}-{files[name][:16]}.parquet")
    manifest = CatalogueManifest(
        release=release_hash,
        created=datetime.now(UTC).isoformat(timespec="microseconds"),
        items=items.num_rows,
        departed=len(departed.item_ids),
        files=files,
    )
    manifest = CatalogueManifest(**{**vars(manifest), "hash": manifest.content_hash()})
    partial.write_text(json.dumps(asdict(manifest), indent=1))
    partial.replace(folder / MANIFEST)
    for path in set(folder.glob("*.parquet")) - set(manifest.paths(folder).values()):
        path.unlink()
    return manifest


def read_catalogue_manifest(folder: Path) -> CatalogueManifest | None:
    """What the folder says that it holds, None where that is nothing yet. Raises CatalogueRefused."""
    try:
        manifest = CatalogueManifest(**json.loads((folder / MANIFEST).read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise CatalogueRefused(f"{folder / MANIFEST} is no catalogue's ({error}): write the catalogue again") from error
    if manifest.content_hash() != manifest.hash:
        raise CatalogueRefused(f"{folder / MANIFEST} does not match its own hash: write the catalogue again")
    return manifest


def load_catalogue(folder: Path, manifest: CatalogueManifest, *, release_hash: str) -> ServedCatalogue:
    """The catalogue of a manifest, made of the very bytes that were held against it. Raises CatalogueRefused."""
    if manifest.release != release_hash:
        raise CatalogueRefused(
            f"the catalogue {manifest.hash[:12]} in {folder} belongs to release {manifest.release[:12]}, served is "
            f"{release_hash[:12]}: codes of one tokenizer mean nothing to another; write it anew for this release"
        )
    files = {name: _checked(path, manifest.files[name]) for name, path in manifest.paths(folder).items()}
    return ServedCatalogue.of(
        SemanticIds.read(files["semantic_ids"]),
        pq.read_table(files["items"]),
        departed=SemanticIds.read(files["departed"]),
        hash=manifest.hash,
    )


def _checked(path: Path, sha256: str) -> io.BytesIO:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise CatalogueRefused(f"{path} is missing: the catalogue is being replaced, or was copied in part") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise CatalogueRefused(f"{path} is not the file that the catalogue was sealed with: write it again")
    return io.BytesIO(content)
