"""Great Expectations' Data Docs as one file that needs no network.

The library renders each suite's results; its own page around them fetches styles and scripts from six servers, so the
page and the style are ours.
"""

from collections.abc import Iterable, Sequence
from copy import copy
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.validate.expectations import Finding
from nextpage.gates import Verdict

if TYPE_CHECKING:
    from great_expectations.core import ExpectationValidationResult

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
nav a { margin-right: 1rem }
.verdict { padding: .6rem 1rem; border-left: 4px solid #2a7d46; background: #eef7f0 }
.verdict.failed { border-color: #b3261e; background: #fbeeed }
table { border-collapse: collapse; width: 100%; margin: .3rem 0 1rem }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top }
h5 { font-size: 1rem; margin: 1rem 0 0 } h4 { margin: 1rem 0 0 }
.badge { background: #eee; border-radius: 3px; padding: 0 .3rem; font-family: ui-monospace, monospace }
.fa-check-circle::before { content: "✓"; color: #2a7d46 }
.fa-times::before { content: "✗"; color: #b3261e }
.fa-exclamation-triangle::before { content: "!"; color: #b3261e }
"""


def write_docs(path: Path, findings: Sequence[Finding], verdict: Verdict) -> None:
    """The verdict, then the results of each suite under an anchor of its name."""
    tables = list(dict.fromkeys(one.table for one in findings))
    links = "".join(f'<a href="#{table}">{table}</a>' for table in tables)
    suites = "".join(
        f'<h2 id="{table}">{table}</h2>{_rendered(table, [one.result for one in findings if one.table == table])}'
        for table in tables
    )
    reasons = "<br>".join(escape(reason, quote=False) for reason in verdict.reasons)
    word = "passed" if verdict.passed else "failed"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Data Docs: {word}</title><style>{STYLE}</style>'
        f'<h1>Data Docs</h1><p class="verdict {word}"><b>{verdict.gate}: {word}</b><br>{reasons}</p>'
        f"<nav>{links}</nav>{suites}</html>\n"
    )


def _without_markup(result: "ExpectationValidationResult") -> "ExpectationValidationResult":
    """A copy to show: the library writes found values into its page as they are, so markup in a log would run in it."""
    shown = copy(result)
    full = ("unexpected_list", "unexpected_index_list")
    shown.result = {key: _escaped(value) for key, value in result.result.items() if key not in full}
    return shown


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _escaped(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_escaped(one) for one in value]
    return escape(value) if isinstance(value, str) else value


def _rendered(table: str, results: "Iterable[ExpectationValidationResult]") -> str:
    from great_expectations.core import ExpectationSuiteValidationResult
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaSectionView

    results = [_without_markup(one) for one in results]
    held = sum(bool(one.success) for one in results)
    whole = ExpectationSuiteValidationResult(
        success=held == len(results),
        results=results,
        suite_name=table,
        statistics={
            "evaluated_expectations": len(results),
            "successful_expectations": held,
            "unsuccessful_expectations": len(results) - held,
            "success_percent": 100 * held / len(results),
        },
        meta={},
    )
    document = ValidationResultsPageRenderer().render(whole)
    view = DefaultJinjaSectionView()
    # The first section repeats the run's ids; the others are one a column.
    return "".join(
        view.render({"section": section.to_json_dict(), "section_loop": {"index": f"{table}-{place}"}})
        for place, section in enumerate(document.sections[1:], start=1)
    )
