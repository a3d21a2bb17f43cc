"""The monitor's card: one table, the furthest column first."""

from components.monitor.drift import Finding
from nextpage.gates import Verdict


def write_card(
    findings: list[Finding], chance: list[Finding], unmeasured: list[str], drift: Verdict, fitness: Verdict
) -> str:
    """Markdown: the two verdicts, and for each column how far it moved, how far chance moves it, and the bound."""
    noise = {(finding.kind, finding.column): finding.value for finding in chance}
    lines = [
        f"# Drift: {'something moved' if not drift.passed else 'nothing moved'}",
        "",
        f"The monitor itself is {'fit' if fitness.passed else 'unfit: read no drift from it'}.",
        "",
        *(f"- {reason}" for reason in drift.reasons),
        "",
        "| what | column | moved by | by chance (A/A) | bound | |",
        "|---|---|---:|---:|---:|---|",
    ]
    for finding in sorted(findings, key=lambda finding: -finding.value / finding.bound):
        by_chance = noise.get((finding.kind, finding.column))
        lines.append(
            f"| {finding.kind} | {finding.column} | {finding.value:.3f} | "
            f"{'' if by_chance is None else f'{by_chance:.3f}'} | {finding.bound:.3f} | "
            f"{'**drift**' if finding.drifted else 'steady'} |"
        )
    if unmeasured:
        lines += ["", f"Not measured, for too few rows: {', '.join(unmeasured)}."]
    return "\n".join(lines) + "\n"
