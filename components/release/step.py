"""A candidate with its figures becomes a release."""

import shutil
from pathlib import Path

from nextpage.release import MANIFEST, Manifest, seal, verify


def make_release(*, candidate: Path, metrics: Path, card: Path, release: Path, name: str) -> Manifest:
    """Copy the candidate, add figures and model card, and seal; refuses a candidate that was changed."""
    manifest = verify(candidate)
    shutil.copytree(candidate, release, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
    shutil.copy2(metrics, release / "metrics.json")
    shutil.copy2(card, release / "card.md")
    return seal(release, name=name, recipe=manifest.recipe, feature_service=manifest.feature_service)


def release_card(manifest: Manifest) -> str:
    """The manifest for people, as Markdown."""
    rows = "\n".join(f"| `{path}` | `{digest[:12]}` |" for path, digest in manifest.files.items())
    return f"""# Release {manifest.name}

Hash `{manifest.hash}`, recipe `{manifest.recipe}`, made {manifest.created}.
Reads feature service `{manifest.feature_service.name}` (`{manifest.feature_service.hash[:12]}`).

| file | SHA-256 begins |
|---|---|
{rows}
"""
