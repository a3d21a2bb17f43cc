"""Writes charts/nextpage/README.md out of the comments in values.yaml: `python charts/readme.py`."""

from collections.abc import Iterator
from pathlib import Path

import yaml

CHART = Path(__file__).parent / "nextpage"
HEAD = """# The chart nextpage

Installs pipelines, the training runtime, the feature store, Redis, serving, monitoring and network policies: each where
the cluster can take it, and its notes say what was found and what was skipped. [docs/install.md](../../docs/install.md)
goes from zero to a first run. Presets: `values-cpu.yaml`, `values-gpu.yaml`, `values-airgap.yaml`.

This page is written by `python charts/readme.py` from the comments in `values.yaml`.

| value | default | what |
|---|---|---|
"""


def readme() -> str:
    """The page as it should be."""
    text = (CHART / "values.yaml").read_text()
    rows = _rows(yaml.compose(text), text.splitlines(), ())
    return HEAD + "".join(f"| `{name}` | {default} | {what} |\n" for name, default, what in rows)


def _rows(node: yaml.MappingNode, lines: list[str], above: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """Name, default and comment of each value that has a comment; below the others, of what they hold."""
    for key, value in node.value:
        name = (*above, key.value)
        comment = _comment_above(lines, key.start_mark.line)
        if comment:
            default = " ".join(lines[key.start_mark.line].partition(":")[2].split())
            yield ".".join(name), f"`{default}`", comment
        elif isinstance(value, yaml.MappingNode):
            yield from _rows(value, lines, name)
        else:
            raise ValueError(f"{'.'.join(name)} in values.yaml has no comment: say above it what it is for")


def _comment_above(lines: list[str], line: int) -> str:
    """The comment that stands directly above a line, as one line."""
    first = line
    while first and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return " ".join(found.lstrip(" #").replace("|", "\\|") for found in lines[first:line])


if __name__ == "__main__":
    (CHART / "README.md").write_text(readme())
