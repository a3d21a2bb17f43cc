"""A Dockerfile as stages of instructions, as far as ours go."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Stage:
    name: str
    base: str
    instructions: tuple[tuple[str, str], ...]  # keyword, the rest on one line

    def said(self, keyword: str) -> list[str]:
        return [rest for word, rest in self.instructions if word == keyword]


def read(family: str) -> tuple[list[tuple[str, str]], dict[str, Stage]]:
    """The instructions before the first stage, and the stages by name."""
    text = re.sub(r"(?m)^#.*\n", "", (ROOT / family / "Dockerfile").read_text())
    lines = [line for line in re.sub(r"\\\n\s*", "", text).splitlines() if line.strip()]
    parsed = [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]
    starts = [place for place, (word, _) in enumerate(parsed) if word == "FROM"]
    stages = {}
    for start, end in zip(starts, [*starts[1:], len(parsed)], strict=True):
        base, name = parsed[start][1].split(" AS ")
        stages[name] = Stage(name=name, base=base, instructions=tuple(parsed[start + 1 : end]))
    return parsed[: starts[0]], stages


def lineage(stages: dict[str, Stage], name: str) -> list[Stage]:
    """The stages whose layers an image holds, its own last."""
    stage = stages[name]
    return [*(lineage(stages, stage.base) if stage.base in stages else []), stage]
