"""The verdict as a page for people: what was decided and why, in words and figures, and what the figures do not say."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from nextpage.experiments.breakdown import Part, by_day, by_segment, novelty
from nextpage.experiments.chart import effect_chart
from nextpage.experiments.gate import HOLD, INVALID, NO_DATA, PROMOTE, ROLLBACK, Tested
from nextpage.experiments.quality import sample_ratio_p
from nextpage.experiments.record import Record
from nextpage.experiments.rule import PRIMARY

MEANING = {
    PROMOTE: "The new release takes all traffic.",
    HOLD: "Traffic stays as it is, and the experiment goes on.",
    ROLLBACK: "All traffic goes back to the control release.",
    INVALID: "Traffic is held where it is, and no ramp goes on: the figures cannot be trusted, for or against.",
}
COLOURS = {PROMOTE: "#1a7f37", HOLD: "#9a6700", ROLLBACK: "#cf222e", INVALID: "#6e40c9"}
FINDINGS = {"shown": "yes", "harmed": "**harm**", "undecided": "undecided", "no data": "no data"}
LIMITS = """- A verdict is of the users and weeks that it saw: of no other season, and of nobody who was not there.
- Intervals and bounds rest on the normal distribution of means over users; a few users with huge values need more of
  them than `minimum_users` may ask.
- Users are taken to be independent: where one sees what another was shown, or both draw on one stock, effects leak.
- Days and segments are shown for understanding. They decide nothing, and among many one stands out by luck."""


@dataclass(frozen=True)
class _Table:
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class _Section:
    """Paragraphs, lists (lines that begin with "- ") and tables under a heading."""

    title: str
    blocks: Sequence[str | _Table]


def write_card(record: Record) -> str:
    """The card in Markdown."""
    sections = [f"# {_title(record)}", _lead(record)]
    for section in _sections(record):
        sections.append(f"## {section.title}")
        sections.extend(_markdown(block) for block in section.blocks)
    return "\n\n".join(sections) + "\n"


def write_html(record: Record) -> str:
    """The card as one HTML page that loads nothing, with the primary metric's effect drawn day by day."""
    colour = COLOURS[record.decision.verdict]
    body = [f"<h1>{_inline(_title(record))}</h1>", f"<p class=lead>{_inline(_lead(record))}</p>"]
    body.append(effect_chart(record.decision.tested[0], record.rule.horizon_days))
    for section in _sections(record):
        body.append(f"<h2>{_inline(section.title)}</h2>")
        body.extend(_html(block) for block in section.blocks)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(_title(record))}</title>"
        "<style>body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1f2328}"
        f"h1{{border-left:.5rem solid {colour};padding-left:.8rem}}.lead{{font-size:1.1rem}}"
        "table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}"
        "th,td{padding:.3rem .7rem;border-bottom:1px solid #d0d7de;text-align:right}"
        "th:first-child,td:first-child{text-align:left}code,pre{background:#f6f8fa}pre{padding:.8rem;overflow-x:auto}"
        f"</style>{''.join(body)}</html>\n"
    )


def _title(record: Record) -> str:
    return f"{record.decision.verdict}: A/B test {record.rule.experiment}"


def _lead(record: Record) -> str:
    rule, decision = record.rule, record.decision
    control, treatment = record.summary.users
    return (
        f"Day {decision.day} of {rule.horizon_days}; {treatment:,} users saw release {record.releases.treatment[:12]}, "
        f"{control:,} release {record.releases.control[:12]}. {MEANING[decision.verdict]}"
    )


def _sections(record: Record) -> list[_Section]:
    rule, decision = record.rule, record.decision
    sections = [
        _Section("Why", ["\n".join(f"- {reason}" for reason in decision.reasons)]),
        _Section("What was asked", [_claims(decision.tested)]),
        _Section("Can the figures be trusted", [_quality(record)]),
    ]
    if record.summary.looks:
        sections.append(_Section("Day by day", [_novelty(record), _parts("day", by_day(record.summary, rule))]))
    if record.summary.segments:
        said = "Declared beforehand; the intervals cover all of them together with 95%."
        sections.append(_Section("Segments", [said, _parts("segment", by_segment(record.summary, rule))]))
    registered = f"```\n{rule.to_yaml().strip()}\n```"
    sections.append(_Section("The rule, as registered", [registered, _provenance(record)]))
    sections.append(_Section("Limits", [LIMITS]))
    return sections


def _claims(tested: Sequence[Tested]) -> _Table:
    head = ["metric", "asked", "control", "treatment", "effect", "interval", "z", "shown at", "harm at", "shown?"]
    return _Table(head, [_claim(one) for one in tested])


def _claim(tested: Tested) -> list[str]:
    asked = _asked(tested)
    if tested.finding == NO_DATA:
        return [tested.metric, asked, *["–"] * 7, FINDINGS[tested.finding]]
    last = tested.path[-1]

    def signed(value: float | None) -> str:
        return "–" if value is None else f"{value:+.3g}" if tested.absolute else f"{value:+.2%}"

    return [
        tested.metric,
        asked,
        f"{last.control:.4g}",
        f"{last.treatment:.4g}",
        signed(last.effect),
        f"{signed(last.low)} to {signed(last.high)}",
        f"{last.z:.2f}",
        "not today" if last.to_show is None else f"{last.to_show:.2f}",
        "–" if last.to_harm is None else f"{-last.to_harm:.2f}",
        FINDINGS[tested.finding],
    ]


def _asked(tested: Tested) -> str:
    if tested.role == PRIMARY:
        return f"{tested.direction}s"
    worse = "falls" if tested.direction == "increase" else "rises"
    return f"{worse} by less than {tested.margin:g}" + ("" if tested.absolute else " of control")


def _quality(record: Record) -> str:
    rule, (control, treatment) = record.rule, record.summary.users
    p = sample_ratio_p(control, treatment, rule.treatment_share)
    contaminated = record.summary.contaminated
    share = contaminated / max(1, control + treatment + contaminated)
    return (
        f"- Users fell into the arms {control:,} to {treatment:,}, {rule.treatment_share:.0%} treatment was expected: "
        f"χ² p = {p:.2g}, must not be below {rule.sample_ratio_alpha:g}.\n"
        f"- {contaminated:,} users ({share:.2%}) were seen in both arms and are left out; at most "
        f"{rule.most_contaminated:.2%} may be."
    )


def _novelty(record: Record) -> str:
    change = novelty(record.summary, record.rule)
    if math.isnan(change.low):
        return "Too little yet to tell whether the effect wears off."
    worn = "It changes." if change.low > 0 or change.high < 0 else "No sign that it wears off or grows."
    return (
        f"From the first half of the days to the second, the effect changed by {change.effect:+.2%} "
        f"(95% {change.low:+.2%} to {change.high:+.2%}). {worn} Each day alone, with intervals that mind no other day:"
    )


def _parts(kind: str, parts: Sequence[Part]) -> _Table:
    def row(part: Part) -> list[str]:
        if math.isnan(part.effect):
            return [part.name, f"{part.users:,}", "–", "–"]
        return [part.name, f"{part.users:,}", f"{part.effect:+.2%}", f"{part.low:+.2%} to {part.high:+.2%}"]

    return _Table([kind, "users", "effect", "95%"], [row(part) for part in parts])


def _provenance(record: Record) -> str:
    lines = [f"- rule `{record.rule_hash}`", f"- record `{record.hash}`, decided {record.decided_at}"]
    if record.previous:
        lines.append(f"- after record `{record.previous}`")
    if record.approved_by:
        lines.append(f"- approved by {record.approved_by}")
    return "\n".join(lines)


def _markdown(block: str | _Table) -> str:
    if isinstance(block, str):
        return block
    rule = ["---"] + ["---:"] * (len(block.head) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [block.head, rule, *block.rows])


def _html(block: str | _Table) -> str:
    if isinstance(block, _Table):
        head = "".join(f"<th>{_inline(cell)}</th>" for cell in block.head)
        rows = ("".join(f"<td>{_inline(cell)}</td>" for cell in row) for row in block.rows)
        return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"
    if block.startswith("```"):
        return f"<pre>{html.escape(block.strip('`').strip())}</pre>"
    if block.startswith("- "):
        return "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in block[2:].split("\n- ")) + "</ul>"
    return f"<p>{_inline(block)}</p>"


def _inline(text: str) -> str:
    """Escaped, with **bold** and `code`."""
    text = html.escape(text, quote=False)
    for mark, tag in (("**", "b"), ("`", "code")):
        pieces = text.split(mark)
        if len(pieces) % 2:
            text = "".join(f"<{tag}>{piece}</{tag}>" if place % 2 else piece for place, piece in enumerate(pieces))
    return text
