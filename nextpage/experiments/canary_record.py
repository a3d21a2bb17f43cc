"""A look of the operational canary with all that it rests on, and its card: as `record` is for the A/B test."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nextpage.experiments.canary import Answered, CanaryConfig, CanaryDecision, judge_canary
from nextpage.experiments.gate import HOLD, PROMOTE, ROLLBACK
from nextpage.experiments.record import Releases
from nextpage.experiments.sealed import RecordRefused, read_sealed, sealed, write_once

MEANING = {
    PROMOTE: "The new release is not broken: it goes on.",
    HOLD: "Traffic stays as it is until enough requests were answered.",
    ROLLBACK: "All traffic goes back to the control release.",
}


@dataclass(frozen=True, kw_only=True)
class Counts:
    """As `Answered`, in a form that is written: (kind of failure, how many)."""

    requests: int
    failures: tuple[tuple[str, int], ...]

    @property
    def answered(self) -> Answered:
        return Answered(requests=self.requests, failures=dict(self.failures))


@dataclass(frozen=True, kw_only=True)
class CanaryRecord:
    """Requests from `since` to `decided_at`, in ISO 8601, while the new release had `percent` of the users.
    `previous`: the hash of the look before."""

    config: CanaryConfig
    releases: Releases
    percent: int
    since: str
    control: Counts
    treatment: Counts
    verdict: str
    reasons: tuple[str, ...]
    evidence: tuple[tuple[str, float], ...]
    decided_at: str
    previous: str | None
    hash: str = ""


def make_canary_record(
    control: Answered,
    treatment: Answered,
    config: CanaryConfig,
    releases: Releases,
    *,
    percent: int,
    since: datetime,
    decided_at: datetime,
    previous: CanaryRecord | None = None,
) -> CanaryRecord:
    """Decide, and record it. Raises RecordRefused where `previous` judged other releases."""
    if previous is not None and previous.releases != releases:
        raise RecordRefused(f"canary record {previous.hash[:12]} is of other releases, {previous.releases}")
    decision = judge_canary(control, treatment, config)
    return sealed(
        CanaryRecord(
            config=config,
            releases=releases,
            percent=percent,
            since=since.isoformat(timespec="seconds"),
            control=_counts(control),
            treatment=_counts(treatment),
            verdict=decision.verdict,
            reasons=decision.reasons,
            evidence=tuple(sorted(decision.evidence.items())),
            decided_at=decided_at.isoformat(timespec="seconds"),
            previous=previous.hash if previous is not None else None,
        )
    )


def reproduce_canary(record: CanaryRecord) -> CanaryDecision:
    """The decision, computed anew from the record's counts. Raises RecordRefused where it is another one."""
    decision = judge_canary(record.control.answered, record.treatment.answered, record.config)
    if decision.verdict != record.verdict:
        raise RecordRefused(f"canary record {record.hash[:12]} says {record.verdict}, its counts {decision.verdict}")
    return decision


def write_canary_record(record: CanaryRecord, folder: Path) -> Path:
    """Write `<percent>-<verdict>-<hash>.json`, read-only, as `record.write_record` does."""
    return write_once(record, folder / f"{record.percent:03d}-{record.verdict}-{record.hash[:12]}.json")


def read_canary_record(path: Path) -> CanaryRecord:
    """Raises RecordRefused for a file that is no record or was changed."""
    try:
        raw = json.loads(path.read_text())
    except ValueError as error:
        raise RecordRefused(f"{path} cannot be read as a record: {error}") from error
    return read_sealed(CanaryRecord, raw, path)


def write_canary_card(record: CanaryRecord) -> str:
    """The look in Markdown."""
    evidence: Mapping[str, float] = dict(record.evidence)
    control = dict(record.control.failures)
    rows = "\n".join(
        f"| {name} | {control[name]:,} | {count:,} | {evidence[name]:.3g} | {1 / record.config.alpha:,.0f} |"
        for name, count in record.treatment.failures
    )
    reasons = "\n".join(f"- {reason}" for reason in record.reasons)
    return (
        f"# {record.verdict}: operational canary at {record.percent}%\n\n"
        f"From {record.since} to {record.decided_at}: {record.treatment.requests:,} requests answered by release "
        f"{record.releases.treatment[:12]}, {record.control.requests:,} by {record.releases.control[:12]}. "
        f"{MEANING[record.verdict]}\n\n## Why\n\n{reasons}\n\n## What went wrong\n\n"
        f"| | control | new release | e-value | rolls back from |\n|---|---|---|---|---|\n{rows}\n\n"
        f'The e-value bets against "at most {record.config.tolerance:g} times as often as control". However often one '
        f"looks, it rolls back wrongly at most {record.config.alpha:.1%} of the time, a kind of failure.\n\n"
        f"Record `{record.hash[:12]}`, after `{(record.previous or 'none')[:12]}`.\n"
    )


def _counts(answered: Answered) -> Counts:
    return Counts(requests=answered.requests, failures=tuple(sorted(answered.failures.items())))
