"""A look as the files that a step leaves: record, verdict, cards; and its figures."""

from pathlib import Path

from nextpage.experiments.canary_record import CanaryRecord, write_canary_card
from nextpage.experiments.card import write_card, write_html
from nextpage.experiments.gate import PROMOTE
from nextpage.experiments.record import Record
from nextpage.experiments.sealed import to_json
from nextpage.gates import Verdict

NOTHING = "nothing to judge: no release that has users is being rolled out, or no experiment is held"


def write_look(look: Record | None, *, record: Path, verdict: Path, card: Path, page: Path) -> dict[str, float]:
    """Write the A/B test's files, and return its figures."""
    if look is None:
        page.write_text(f"<!doctype html><title>A/B test</title><p>{NOTHING}</p>\n")
        return _nothing("A/B test", record, verdict, card)
    decision = look.decision
    record.write_text(to_json(look))
    card.write_text(write_card(look))
    page.write_text(write_html(look))
    _verdict("A/B test", decision.verdict, decision.reasons).write(verdict)
    control, treatment = look.summary.users
    figures = {"day": decision.day, "control_users": control, "treatment_users": treatment, "percent": look.percent}
    path = decision.tested[0].path
    if path and path[-1].effect is not None:
        figures["effect"] = path[-1].effect
    return {name: float(value) for name, value in figures.items() if value is not None}


def write_canary(look: CanaryRecord | None, *, record: Path, verdict: Path, card: Path) -> dict[str, float]:
    """Write the canary's files, and return its figures."""
    if look is None:
        return _nothing("canary", record, verdict, card)
    record.write_text(to_json(look))
    card.write_text(write_canary_card(look))
    _verdict("canary", look.verdict, look.reasons).write(verdict)
    failures = {name.replace(" ", "_"): float(count) for name, count in look.treatment.failures}
    return {"requests": float(look.treatment.requests), "percent": float(look.percent), **failures}


def _verdict(gate: str, said: str, reasons: tuple[str, ...]) -> Verdict:
    """No data is never a success, and neither is a verdict that cannot be trusted: PROMOTE alone passes."""
    return Verdict(gate=gate, passed=said == PROMOTE, reasons=(said, *reasons))


def _nothing(gate: str, record: Path, verdict: Path, card: Path) -> dict[str, float]:
    record.write_text("null")
    card.write_text(f"# {gate}\n\n{NOTHING[0].upper()}{NOTHING[1:]}.\n")
    Verdict(gate=gate, passed=False, reasons=(NOTHING,)).write(verdict)
    return {}
