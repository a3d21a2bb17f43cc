"""The course of an alignment: reward, recall and hallucination at steps along the way, a line of JSON each."""

import json
from collections.abc import Callable
from pathlib import Path

COURSE = "course.jsonl"


class Course:
    """Measures a model that is being trained, and writes down what it finds.

    Lines of steps that a killed run will do again are replaced.
    """

    def __init__(self, path: Path, measure: Callable[[], dict[str, float]]) -> None:
        self.path, self.measure = path, measure

    def __call__(self, step: int) -> None:
        """Measure after `step` steps."""
        earlier = [line for line in read_course(self.path) if line["step"] < step]
        lines = [*earlier, {"step": step, **self.measure()}]
        partial = self.path.with_suffix(".partial")
        partial.write_text("".join(json.dumps(line) + "\n" for line in lines))
        partial.replace(self.path)


def read_course(path: Path) -> list[dict[str, float]]:
    """The lines so far, in order."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
