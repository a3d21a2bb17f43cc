"""The card of an alignment: the report's section on it as a page of its own."""

from pathlib import Path
from typing import Any


def write_card(card: Path, outcome: dict[str, Any]) -> None:
    """Write the page, which loads nothing, from the content of alignment.json."""
    from components.report.alignment import read_alignment
    from components.report.step import render

    card.write_text(render("card.html", title="Alignment", alignment=read_alignment(outcome)))
