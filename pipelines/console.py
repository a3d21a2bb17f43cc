"""What a local run shows: a heading a step and the step's own lines, out of all that the runner prints."""

import io
import re
import time
from typing import TextIO

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
STARTED = re.compile(r"Executing task '(.+)'")
ENDED = re.compile(r"Task '(.+)' finished with status (\w+)")
INSIDE = "    "
"""How the runner indents what a step prints."""


class Console(io.TextIOBase):
    """A stream that keeps every line in `log` and passes on to `screen` those a person wants to read."""

    def __init__(self, screen: TextIO, log: TextIO) -> None:
        self.screen, self.log = screen, log
        self._partial = ""
        self._hidden_until: str | None = None  # the line that ends a dump
        self._failing = False  # inside a traceback
        self._running = False  # between a step's start and its end: what follows are addresses of its outputs
        self._started = time.perf_counter()

    def write(self, text: str) -> int:
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            plain = COLOURS.sub("", line)
            self.log.write(plain + "\n")
            shown = self._shown(plain)
            if shown is not None:
                self.screen.write(shown + "\n")
        self.log.flush()
        self.screen.flush()
        return len(text)

    def _shown(self, line: str) -> str | None:
        if not line.startswith(INSIDE):
            return self._of_runner(line)
        return self._of_step(line.removeprefix(INSIDE)) if self._running else None

    def _of_runner(self, line: str) -> str | None:
        if started := STARTED.search(line):
            self._started, self._running = time.perf_counter(), True
            return f"▸ {started.group(1)}"
        if ended := ENDED.search(line):
            self._running = False
            word = "done" if ended.group(2) == "SUCCESS" else "failed"
            return f"  {word} in {time.perf_counter() - self._started:.1f} s"
        return None

    def _of_step(self, line: str) -> str | None:
        if self._hidden_until is not None:
            if line == self._hidden_until:
                self._hidden_until = None
            return None
        line, executor, said = line.partition("[KFP Executor")
        if executor and "Got executor_input" in said:
            self._hidden_until = "}"
        if line.startswith("Traceback (most recent call last)"):
            self._failing = True
            return None
        if self._failing:
            if line.startswith(" ") or not line.strip():
                return None
            self._failing = False  # the exception itself follows its traceback
        return f"  {line}" if line.strip() else None
