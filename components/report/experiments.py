"""The A/B tests of a run on its page. They come after the pipeline, and so into a page that is there already."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.report.step import render

TITLES = {
    "ab": "The release, against itself without its repeat prior",
    "ab_bad_release": "Planted: a release with shuffled semantic IDs",
    "ab_ratio_mismatch": "Planted: an edge that loses a part of treatment's users",
}
PLACE = re.compile(r'<section id="experiments">.*?</section>', re.DOTALL)


def add_experiments(report: Path, result: Mapping[str, Any]) -> None:
    """Show the A/B tests of `pipelines.experiment.run_experiments` in a report, in place of those that it shows.

    Links lead to the cards beside the report. Raises ValueError for a page that has no place for them.
    """
    page = report.read_text()
    if not PLACE.search(page):
        raise ValueError(f"{report} has no section for A/B tests: was it written by another version? Run it anew")
    tests = [{"title": TITLES.get(name, name), **found} for name, found in result["verdicts"].items()]
    section = render("experiments.html", tests=tests, replay=result["replay"], seconds=result["seconds"])
    report.write_text(PLACE.sub(lambda _: section.strip(), page, count=1))
