"""Watch a log, its codes and its predictions for drift."""

import json as json_format
from dataclasses import asdict
from html import escape
from pathlib import Path

from components.monitor.card import write_card
from components.monitor.config import MonitorConfig
from components.monitor.drift import Finding, measurable, measure
from components.monitor.windows import Pair, describe, open_log, pairs, quality, random_halves, time_windows
from components.train.step import LEARNT_FROM
from nextpage.gates import Verdict


class TooLittle(ValueError):
    """A window that says nothing."""


def monitor(
    clean: Path,
    semantic_ids: Path,
    html: Path,
    json: Path,
    config: MonitorConfig,
    predictions: Path | None = None,
    card: Path | None = None,
    learnt_until: int | None = None,
) -> tuple[Verdict, Verdict]:
    """Compare the current window with the reference, and two random halves of the reference with each other.

    Returns the verdicts "drift" (has anything moved past its bound?) and "monitor" (did the A/A comparison stay
    quiet?). The first is information: a new season is no reason to stop a pipeline, and a model is retrained because
    of drift, not in spite of it. The second is a gate: a monitor that fires between random halves says nothing about
    anything, so drift does not pass either. Writes Evidently's page to `html`; windows, findings and verdicts to
    `json`; a table in Markdown to `card`.

    With `learnt_until` the reference is that of a release (`time_windows`).

    Raises TooLittle where a window holds fewer than `config.least_pages` pages, or no column can be measured: no data
    is never a success.
    """
    connection = open_log(clean, semantic_ids, predictions)
    windows = time_windows(connection, config, learnt_until)
    periods = describe(connection, windows)
    for period in ("reference", "current"):
        held = periods.get(period, {}).get("pages", 0)
        if held < config.least_pages:
            raise TooLittle(
                f"the {period} window holds {held} pages, at least {config.least_pages} are needed: "
                f"widen {period}_weeks or look for a gap in the log"
            )
    halves = random_halves(windows, config.seed)
    compared = pairs(connection, windows, config)
    alike = pairs(connection, halves, config, like=compared)
    if predictions is not None:
        compared += quality(connection, windows, config)
        alike += quality(connection, halves, config)
    compared, alike, unmeasured = _measurable(compared, alike, config)
    findings, chance = measure(compared, config, html), measure(alike, config)
    fitness = _fitness(chance)
    drift = _drift(findings, fitness)
    record = {
        "windows": periods,
        "findings": [asdict(finding) | {"drifted": finding.drifted} for finding in findings],
        "chance": [asdict(finding) | {"drifted": finding.drifted} for finding in chance],
        "unmeasured": unmeasured,
        "verdicts": [asdict(drift), asdict(fitness)],
        "config": asdict(config),
    }
    json.write_text(json_format.dumps(record, indent=1))
    if card is not None:
        card.write_text(write_card(findings, chance, unmeasured, drift, fitness))
    return drift, fitness


def nothing_to_compare(reason: str, html: Path, json: Path, card: Path) -> tuple[Verdict, Verdict]:
    """What `monitor` leaves and returns, where too few pages are no error: neither verdict passes."""
    verdicts = tuple(Verdict(gate=gate, passed=False, reasons=(reason,)) for gate in ("drift", "monitor"))
    html.write_text(f"<p>{escape(reason)}</p>")
    json.write_text(json_format.dumps({"findings": [], "verdicts": [asdict(one) for one in verdicts]}, indent=1))
    card.write_text(f"# Drift: nothing to compare\n\n{reason[0].upper()}{reason[1:]}.\n")
    return verdicts[0], verdicts[1]


def learnt_until(release: Path) -> int:
    """The first second after the log that a release was learnt from."""
    path = release / LEARNT_FROM
    if not path.is_file():
        raise ValueError(f"{release} does not say what it was learnt from, it has no {LEARNT_FROM}: make a new release")
    return int(json_format.loads(path.read_text())["log_end"])


def _measurable(
    compared: list[Pair], alike: list[Pair], config: MonitorConfig
) -> tuple[list[Pair], list[Pair], list[str]]:
    """The columns that both comparisons can measure, and the names of the others."""
    able = [{pair.column for pair in pairs if measurable(pair, config.bound(pair.kind))} for pairs in (compared, alike)]
    kept = able[0] & able[1]
    if not any(pair.column in kept for pair in compared if pair.kind != "quality"):
        raise TooLittle(
            "no column has rows enough in both windows for its bound: widen the windows or raise the bounds"
        )
    return (
        [pair for pair in compared if pair.column in kept],
        [pair for pair in alike if pair.column in kept],
        [pair.column for pair in compared if pair.column not in kept],
    )


def _drift(findings: list[Finding], fitness: Verdict) -> Verdict:
    moved = tuple(finding.sentence() for finding in findings if finding.drifted)
    largest = (
        "the furthest of " + max(group, key=lambda finding: finding.value / finding.bound).sentence()
        for kind in dict.fromkeys(finding.kind for finding in findings)
        if (group := [finding for finding in findings if finding.kind == kind])
    )
    return Verdict(
        gate="drift",
        passed=not moved and fitness.passed,
        reasons=(*(moved or largest), *fitness.reasons),
    )


def _fitness(chance: list[Finding]) -> Verdict:
    loud = tuple(
        f"between random halves of the reference window (A/A) {finding.sentence()}: "
        "the window is too small for this bound, widen current_weeks or raise the bound"
        for finding in chance
        if finding.drifted
    )
    furthest = max(chance, key=lambda finding: finding.value / finding.bound)
    quiet = (
        f"random halves of the reference window (A/A) stay quiet; of {len(chance)} columns the furthest, "
        f"{furthest.sentence()}"
    )
    return Verdict(gate="monitor", passed=not loud, reasons=loud or (quiet,))
