"""A candidate with its figures becomes a release."""

import shutil
from pathlib import Path

from nextpage.experiments.rule import Rule, rule_from
from nextpage.recipes import Recipe, read_recipe
from nextpage.release import MANIFEST, Manifest, seal, verify

EXPERIMENT = "experiment"  # section of the recipe: a rule without its name, which is the release's
RULE = "rule.yaml"


def make_release(*, candidate: Path, metrics: Path, card: Path, release: Path, name: str) -> Manifest:
    """Copy the candidate, add figures, model card and the rule of its experiment where the recipe has one, and seal;
    refuses a candidate that was changed."""
    manifest = verify(candidate)
    shutil.copytree(candidate, release, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
    shutil.copy2(metrics, release / "metrics.json")
    shutil.copy2(card, release / "card.md")
    recipe = read_recipe(release / "recipe.yaml")
    if EXPERIMENT in recipe.sections:
        (release / RULE).write_text(rule_of(recipe, name).to_yaml())
    return seal(release, name=name, recipe=manifest.recipe, feature_service=manifest.feature_service)


def rule_of(recipe: Recipe, name: str) -> Rule:
    """The rule by which the release's experiment is decided, defaults and all. Raises ValueError as `rule_from`."""
    return rule_from({"experiment": name, **recipe.sections[EXPERIMENT]})


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
