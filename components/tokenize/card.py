"""The tokenizer's report for a person."""

from nextpage.gates import Verdict
from nextpage.tokenizers.quality import QualityReport


def card(report: QualityReport, verdict: Verdict) -> str:
    """Markdown: the verdict, a table by level, and what the collision policy did."""
    lines = [
        f"# Semantic IDs: {'passed' if verdict.passed else 'refused'}",
        "",
        f"{report.items:,} items have {len(report.levels)} codes each.",
        "",
        *(f"- {reason}" for reason in verdict.reasons),
        "",
        "| level | codes | in use | coverage | entropy, bits | perplexity | variance left |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {level} | {quality.size} | {quality.used} | {quality.coverage:.1%} | {quality.entropy:.2f} "
            f"| {quality.perplexity:.1f} | {quality.error:.1%} |"
            for level, quality in enumerate(report.levels, start=1)
        ),
        "",
        "| items | share |",
        "|---|---|",
        f"| nearest codes are another item's too | {report.colliding_before:.2%} |",
        f"| codes changed, so that each item has its own | {report.recoded:.2%} |",
        f"| moved to another cell, as theirs was full | {report.moved / report.items:.2%} |",
        f"| still share all codes with another item | {report.colliding_after:.2%} |",
    ]
    if report.neighbour is not None:
        lines += ["", _against("Nearest items under one first code", report.neighbour, report.neighbour_chance)]
    if report.category is not None and report.category_chance is not None:
        lines += ["", _against("Items of their first code's main category", report.category, report.category_chance)]
    return "\n".join(lines) + "\n"


def _against(what: str, share: float, chance: float) -> str:
    return f"{what}: {share:.1%}, by chance {chance:.1%}."
