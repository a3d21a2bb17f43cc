"""A verdict with all that it rests on, written once: whoever holds the record can compute the verdict again.

A record names the rule and its hash, both releases, the summarised evidence, the decision, and the record before it.
Its own hash is over all of that, so that a later change shows, to it or to any record before.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nextpage.experiments.gate import Decision, decide
from nextpage.experiments.rule import Rule, rule_from
from nextpage.experiments.sealed import RecordRefused, content_hash, read_sealed, sealed, write_once
from nextpage.experiments.summary import Summary

__all__ = ["Record", "RecordRefused", "Releases", "approve", "make_record", "read_record", "reproduce", "write_record"]


@dataclass(frozen=True, kw_only=True)
class Releases:
    """The hash of the release that each arm served."""

    control: str
    treatment: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """`decided_at` in ISO 8601; `percent` of users that treatment had then, None where no rollout stands behind it;
    `previous`: the hash of the record before, None for the first."""

    rule: Rule
    rule_hash: str
    releases: Releases
    summary: Summary
    decision: Decision
    decided_at: str
    percent: int | None
    approved_by: str | None
    previous: str | None
    hash: str = ""

    def content_hash(self) -> str:
        return content_hash(self)


def make_record(
    rule: Rule,
    summary: Summary,
    releases: Releases,
    decided_at: datetime,
    *,
    percent: int | None = None,
    previous: Record | None = None,
    approved_by: str | None = None,
) -> Record:
    """Decide, and record it. Raises RecordRefused where the rule, the releases or the order of days broke with
    `previous`: what was registered before the start is what counts."""
    if previous is not None:
        _check_follows(rule, summary, releases, previous)
    return sealed(
        Record(
            rule=rule,
            rule_hash=rule.hash,
            releases=releases,
            summary=summary,
            decision=decide(rule, summary, approved_by=approved_by),
            decided_at=decided_at.isoformat(timespec="seconds"),
            percent=percent,
            approved_by=approved_by,
            previous=previous.hash if previous is not None else None,
        )
    )


def approve(record: Record, by: str, at: datetime) -> Record:
    """The record that follows one which waits for approval: the same evidence, promoted by whom it names.

    Raises RecordRefused where there is nothing to approve.
    """
    if not by:
        raise RecordRefused("an approval needs a name")
    if record.decision.cause != "approval":
        said = f"{record.decision.verdict} ({record.decision.cause})"
        raise RecordRefused(f"record {record.hash[:12]} does not wait for an approval, it says {said}")
    return make_record(
        record.rule, record.summary, record.releases, at, percent=record.percent, previous=record, approved_by=by
    )


def reproduce(record: Record) -> Decision:
    """The decision, computed anew from the record's rule and evidence. Raises RecordRefused where the record was
    changed since it was made, or says another verdict than it should."""
    if record.content_hash() != record.hash:
        raise RecordRefused(f"record {record.hash[:12]} was changed after it was made: its contents have another hash")
    if record.rule.hash != record.rule_hash:
        raise RecordRefused(f"the rule of record {record.hash[:12]} is not the one that it was made by")
    decision = decide(record.rule, record.summary, approved_by=record.approved_by)
    if (decision.verdict, decision.cause) != (record.decision.verdict, record.decision.cause):
        raise RecordRefused(
            f"record {record.hash[:12]} says {record.decision.verdict} ({record.decision.cause}), "
            f"its evidence {decision.verdict} ({decision.cause})"
        )
    return decision


def write_record(record: Record, folder: Path) -> Path:
    """Write `<day>-<verdict>-<hash>.json`, read-only; the file appears whole or not at all. Writing the same record
    again changes nothing."""
    name = f"{record.decision.day:03d}-{record.decision.verdict}-{record.hash[:12]}.json"
    return write_once(record, folder / name)


def read_record(path: Path) -> Record:
    """Raises RecordRefused for a file that is no record or was changed; `reproduce` checks the verdict too."""
    try:
        raw = json.loads(path.read_text())
        raw |= {"rule": rule_from(raw["rule"])}
    except (ValueError, TypeError, KeyError) as error:
        raise RecordRefused(f"{path} cannot be read as a record: {error}") from error
    return read_sealed(Record, raw, path)


def _check_follows(rule: Rule, summary: Summary, releases: Releases, previous: Record) -> None:
    name = f"record {previous.hash[:12]}"
    if rule.hash != previous.rule_hash:
        raise RecordRefused(f"the rule is not that of {name}: to change it, start a new experiment under a new name")
    if releases != previous.releases:
        raise RecordRefused(f"the releases are not those of {name}, {previous.releases}: start a new experiment")
    if summary.through_day < previous.summary.through_day:
        raise RecordRefused(f"day {summary.through_day} comes before day {previous.summary.through_day} of {name}")
