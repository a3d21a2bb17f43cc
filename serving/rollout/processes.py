"""Servers on this machine that outlive the process which started them, and are found again by the next."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

STOP_S = 15.0


@dataclass(frozen=True, kw_only=True)
class Process:
    """One that was started, as its record says."""

    name: str
    pid: int
    port: int
    argv: tuple[str, ...]


class Processes:
    """Records and logs in `folder`: `<name>.json`, `<name>.log`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def ensure(self, name: str, argv_on: Callable[[int], Sequence[str]]) -> Process:
        """The running process of that name, started on a free port of 127.0.0.1 where there is none."""
        found = self.find(name)
        if found is not None and self.alive(found):
            return found
        port = free_port()
        argv = tuple(argv_on(port))
        with (self.folder / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        self._children[child.pid] = child
        process = Process(name=name, pid=child.pid, port=port, argv=argv)
        partial = self.folder / f".{name}.partial"
        partial.write_text(json.dumps(asdict(process)))
        partial.replace(self.folder / f"{name}.json")
        return process

    def find(self, name: str) -> Process | None:
        """What was started under that name, running or not."""
        path = self.folder / f"{name}.json"
        if not path.is_file():
            return None
        raw = json.loads(path.read_text())
        return Process(**{**raw, "argv": tuple(raw["argv"])})

    def names(self) -> list[str]:
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def alive(self, process: Process) -> bool:
        """Whether it runs. A number that another program has got since is not it, nor is one that is being ended: the
        kernel has taken its arguments by then, and may take long for the rest."""
        child = self._children.get(process.pid)
        if child is not None and child.poll() is not None:
            return False
        return _arguments(process.pid) == " ".join(process.argv)

    def stop(self, name: str) -> None:
        """End it and forget it: SIGTERM, so that calls in flight are answered, and SIGKILL in the end."""
        process = self.find(name)
        if process is None:
            return
        for ask in (signal.SIGTERM, signal.SIGKILL):
            ends = time.monotonic() + STOP_S
            if self.alive(process):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, ask)
            while self.alive(process) and time.monotonic() < ends:
                time.sleep(0.05)
        self._children.pop(process.pid, None)
        (self.folder / f"{name}.json").unlink(missing_ok=True)

    def last_words(self, name: str) -> str:
        """The end of its log."""
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace")[-500:].strip() if path.is_file() else ""


def _arguments(pid: int) -> str:
    """What a process was started with; "" where there is none or it has ended."""
    if Path("/proc/self/cmdline").is_file():
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode()
        return ""
    shown = subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True)
    return shown.stdout.strip()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
