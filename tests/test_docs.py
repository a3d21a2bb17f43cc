"""What the pages say to type or to open is there: links, headings, commands with their options, scripts, values."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml

from pipelines.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "components/*/README.md", "charts/nextpage/README.md", ".ci/*.md")
    for path in ROOT.glob(pattern)
)
CHART = ROOT / "charts" / "nextpage"
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def typed(page: Path) -> Iterator[str]:
    """Every command line: the lines of blocks, those that go on joined, and code in the text."""
    for block in blocks(page):
        for line in block.replace("\\\n", " ").splitlines():
            yield line.partition(" # ")[0].strip().removeprefix("$ ").removeprefix(".venv/bin/")
    yield from re.findall(r"`([^`\n]+)`", prose(page))


def lines_of(program: str) -> list[tuple[str, list[str]]]:
    return [
        (named(page), line.split()[1:]) for page in PAGES for line in typed(page) if re.match(rf"{program}( |$)", line)
    ]


def slugs(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{named(page)}: {target}"
        assert not anchor or anchor in slugs(there), f"{named(page)}: {target} is no heading there"


def test_every_command_exists_with_its_options() -> None:
    lines = [line for line in lines_of("nextpage") if line[1]]
    assert len(lines) > 10
    for page, (name, *words) in lines:
        assert name in {*COMMANDS, "--help"}, f"{page}: nextpage {name}"
        known = {option for parameter in getattr(COMMANDS.get(name), "params", []) for option in parameter.opts}
        for word in words:
            assert not word.startswith("--") or word.partition("=")[0] in known | {"--help"}, f"{page}: {name} {word}"


def test_every_target_of_make_exists() -> None:
    lines = lines_of("make")
    assert len(lines) > 5
    for page, words in lines:
        for word in words:
            if re.fullmatch(r"[a-z][a-z-]*", word):
                assert word in TARGETS, f"{page}: make {word}"


def test_every_script_exists() -> None:
    lines = lines_of("python")
    assert len(lines) > 5
    for page, words in lines:
        scripts = [word for word in words if word.endswith(".py")]
        assert all((ROOT / script).is_file() for script in scripts), f"{page}: python {' '.join(words)}"


def test_every_value_that_helm_is_given_exists() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    lines = lines_of("helm")
    given = [(page, word) for page, words in lines for word in words if re.match(r"[a-z][\w.*]*=", word)]
    assert given
    for page, word in given:
        inner = values
        for key in word.partition("=")[0].split("."):
            found = list(inner) if key == "*" else [key]
            assert found[0] in inner, f"{page}: {word} is no value of the chart"
            inner = inner[found[0]]
    files = [(page, block) for page in PAGES for block in blocks(page) if block.startswith("# mine.yaml\n")]
    assert files
    for page, block in files:
        problems = list(jsonschema.Draft7Validator(schema).iter_errors(yaml.safe_load(block)))
        assert not problems, f"{named(page)}: {problems[0].message}"
