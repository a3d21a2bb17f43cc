"""What is fixed before a release gets its first user, kept where every later look finds it.

<records>/catalogues/<hash>.parquet        what a release can recommend, with orders
<records>/<release>/registration.json      the rule, both releases, when it began: written once
<records>/<release>/ab/…, canary/…         the looks, each a record that names the one before
"""

import json
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from components.release.step import RULE
from nextpage.experiments.record import Releases
from nextpage.experiments.rule import Rule, read_rule, rule_from
from nextpage.experiments.sealed import RecordRefused, read_sealed, sealed, write_once


@dataclass(frozen=True, kw_only=True)
class Registration:
    """`name`: of the candidate, and of its experiment. `rule`: None where no A/B test is held. `began` in ISO 8601."""

    name: str
    rule: Rule | None
    rule_hash: str | None
    releases: Releases
    began: str
    hash: str = ""

    @property
    def started(self) -> datetime:
        return datetime.fromisoformat(self.began)


def register(
    records: Path, *, name: str, release: Path, releases: Releases, began: datetime, experiment: bool
) -> Registration:
    """Write what is registered, or read it where it was before: a rule counts as it was first written.

    Raises RecordRefused where the release has no rule to hold an experiment by, or where it was registered against
    another control or with another rule.
    """
    rule = read_rule(release / RULE) if experiment and (release / RULE).is_file() else None
    if experiment and rule is None:
        raise RecordRefused(
            f"release {name} has no {RULE}, and its experiment no rule: give the recipe a section `experiment`, or set "
            "experiment of the rollout to false"
        )
    if path_of(records, name).is_file():
        known = read_registration(records, name)
        if known.releases != releases or known.rule_hash != (rule and rule.hash):
            raise RecordRefused(
                f"release {name} is registered with {known.releases} and another rule: make a new release"
            )
        return known
    made = sealed(
        Registration(
            name=name,
            rule=rule,
            rule_hash=rule.hash if rule else None,
            releases=releases,
            began=began.isoformat(),
        )
    )
    write_once(made, path_of(records, name))
    return made


def read_registration(records: Path, name: str) -> Registration:
    """Raises RecordRefused where the release was never registered, or the file was changed."""
    path = path_of(records, name)
    if not path.is_file():
        raise RecordRefused(f"release {name} is not registered in {records}: was it deployed with these records?")
    raw = json.loads(path.read_text())
    raw |= {
        "rule": rule_from(raw["rule"]) if raw["rule"] else None,
        "releases": Releases(**raw["releases"]),
    }
    return read_sealed(Registration, raw, path)


def path_of(records: Path, name: str) -> Path:
    return records / name / "registration.json"


def keep_catalogue(records: Path, release: Path, release_hash: str) -> None:
    path = catalogue(records, release_hash)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    shutil.copyfile(release / "items.parquet", partial)
    partial.replace(path)


def catalogue(records: Path, release_hash: str) -> Path:
    """The items of a release that was ever started here."""
    return records / "catalogues" / f"{release_hash}.parquet"
