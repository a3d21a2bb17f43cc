"""A rollout's state and lock on one machine: a file of JSON, and an advisory lock that ends with its process."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from serving.rollout.errors import Busy
from serving.rollout.state import State, from_json, to_json


@dataclass(frozen=True, kw_only=True)
class FileLedger:
    folder: Path
    patience_s: float = 60.0

    def read(self) -> State | None:
        path = self.folder / "rollout.json"
        return from_json(path.read_text()) if path.is_file() else None

    @contextlib.contextmanager
    def held(self) -> Iterator["HeldFile"]:
        self.folder.mkdir(parents=True, exist_ok=True)
        ends = time.monotonic() + self.patience_s
        with (self.folder / "rollout.lock").open("w") as lock:
            while True:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                if time.monotonic() >= ends:
                    raise Busy(f"another process rolls out in {self.folder}: let it end")
                time.sleep(0.1)
            yield HeldFile(self.folder / "rollout.json", self.read())


@dataclass
class HeldFile:
    """The lock cannot be lost while the process lives, so `renew` has nothing to do."""

    path: Path
    state: State | None

    def write(self, state: State) -> None:
        partial = self.path.with_suffix(".partial")
        with partial.open("w") as file:
            file.write(to_json(state))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)
        self.state = state

    def renew(self) -> None:
        pass
