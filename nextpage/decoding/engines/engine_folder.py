"""Engines of a release: `engines/<key>/` beside its sealed files, each built for one kind of machine.

A release is sealed before its engines are built, so they are no part of its hash: `key.json` in each folder names the
release, the machine and the library that it is for, and the hash of every file. What does not match is refused.

| file | what |
|---|---|
| `key.json` | `EngineKey` |
| `card.md` | what it was measured to be |
| the rest | the engine's own: graphs, weights, plans |
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

from nextpage.decoding.engines.hardware import cpu_architecture, gpu_architecture
from nextpage.release import ENGINES, file_hashes

KEY = "key.json"


class EngineRefused(RuntimeError):
    """The engine is not for this release or this machine, or was changed. `reason` is one word for a counter."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class EngineKey:
    """What an engine is, what it is for, and how it was found to be when it was built."""

    engine: str  # onnx, onnx-int8, tensorrt
    device: str  # cpu or gpu
    architecture: str
    package: str  # that runs it
    version: str
    precision: str
    release: str  # hash
    shapes: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # least and most of what is bounded
    deviation: float = 0.0  # of log-probabilities from the reference, on the probe of `parity.py`
    latency_ms: Mapping[str, float] = field(default_factory=dict)  # median of a search, by batch size
    torch_latency_ms: Mapping[str, float] = field(default_factory=dict)  # of the engine it is to beat, in the same run
    files: Mapping[str, str] = field(default_factory=dict)  # path → SHA-256

    def __post_init__(self) -> None:
        took = [*self.latency_ms.values(), *self.torch_latency_ms.values()]
        if set(self.latency_ms) != set(self.torch_latency_ms) or not all(milliseconds > 0 for milliseconds in took):
            raise ValueError(f"latencies {self.latency_ms} and torch's {self.torch_latency_ms} cannot be compared")

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.engine}.{self.architecture}"

    @property
    def speed(self) -> float:
        """Times as fast as torch: the geometric mean over batch sizes; 0 where nothing was measured."""
        ratios = [self.torch_latency_ms[batch] / latency for batch, latency in self.latency_ms.items()]
        return math.prod(ratios) ** (1 / len(ratios)) if ratios else 0.0


def seal_engine(folder: Path, key: EngineKey) -> EngineKey:
    """Write `key.json` over the files of the folder as they stand."""
    files = {path: digest for path, digest in file_hashes(folder).items() if path != KEY}
    sealed = EngineKey(**{**vars(key), "files": files})
    (folder / KEY).write_text(json.dumps(asdict(sealed), indent=1))
    return sealed


def read_key(folder: Path) -> EngineKey:
    """The key alone, unchecked."""
    try:
        raw = json.loads((folder / KEY).read_text())
        return EngineKey(**raw | {"shapes": {name: (least, most) for name, (least, most) in raw["shapes"].items()}})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise EngineRefused("unreadable", f"{folder / KEY} cannot be read ({error}): build the engine again") from error


def check_engine(folder: Path, key: EngineKey, release: str) -> None:
    """Raises EngineRefused, naming what differs, unless the engine in `folder` is for the release of hash `release`
    and for this machine, and is as it was built."""
    if key.release != release:
        raise EngineRefused(
            "release",
            f"{folder.name} was built from release {key.release[:12]}, this one is {release[:12]}: optimise it",
        )
    here = cpu_architecture() if key.device == "cpu" else gpu_architecture()
    if key.architecture != here:
        raise EngineRefused(
            "architecture", f"{folder.name} was built for {key.architecture}, this machine is {here}: optimise it here"
        )
    try:
        version = metadata.version(key.package)
    except metadata.PackageNotFoundError:
        raise EngineRefused("library", f"{folder.name} runs on {key.package}, which is not installed") from None
    if key.version != version:
        raise EngineRefused(
            "version", f"{folder.name} was built with {key.package} {key.version}, here is {version}: optimise it again"
        )
    found = {path: digest for path, digest in file_hashes(folder).items() if path != KEY}
    for path in sorted({*found, *key.files}):
        if found.get(path) != key.files.get(path):
            raise EngineRefused("changed", f"{path} of engine {folder.name} is not the file that was built")


def engine_folders(release: Path) -> list[Path]:
    """Of a release, in the order of their names."""
    return sorted(path for path in (release / ENGINES).glob("*") if path.is_dir())
