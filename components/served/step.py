"""The release that serves now, brought here."""

from dataclasses import dataclass
from pathlib import Path

from components.deploy.config import read_rollout
from components.deploy.storage import fetched
from components.deploy.traffic import open_rollout
from nextpage.recipes import read_recipe


@dataclass(frozen=True, kw_only=True)
class Served:
    """`found`: whether any release serves; `moving`: whether another one is being rolled out beside it."""

    found: bool
    moving: bool
    said: str


def bring(folder: Path, *, release: str, rollout: str, settings: str, recipe: Path) -> Served:
    """Fill `folder` with the release at the URI `release` or, where that is empty, with the one that the rollout says
    serves; write its recipe with the overrides `settings` to `recipe`. Both are empty where none serves.

    Raises ReleaseRefused where a byte was changed, ValueError where storage or settings cannot be read.
    """
    uri, moving = release, False
    if not release and rollout:
        state = open_rollout(read_rollout(rollout)).state()
        uri, moving = state.stable.storage_uri if state.stable else "", state.candidate is not None
    if not uri:
        folder.mkdir(parents=True, exist_ok=True)
        recipe.touch()
        why = "the rollout has none yet" if rollout else "name it by `release`, or give the settings of its `rollout`"
        return Served(found=False, moving=moving, said=f"No release is watched: {why}.")
    manifest = fetched(uri, folder)
    read_recipe(folder / "recipe.yaml").with_settings(settings.split()).write(recipe)
    beside = " Another one is being rolled out beside it." if moving else ""
    return Served(found=True, moving=moving, said=f"`{manifest.name}` serves, `{manifest.hash}`, from {uri}.{beside}")
