"""What a gate says, in one shape for data, tokenizer, recall and drift."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


class GateFailed(RuntimeError):
    """A gate stopped the pipeline; the message names what broke, the value and the bound."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A gate's decision. `reasons` are sentences: what broke (failed), or what was looked at (passed)."""

    gate: str
    passed: bool
    reasons: tuple[str, ...]

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1))

    @staticmethod
    def read(path: Path) -> "Verdict":
        raw = json.loads(path.read_text())
        return Verdict(gate=raw["gate"], passed=raw["passed"], reasons=tuple(raw["reasons"]))

    def require(self) -> None:
        """Raise GateFailed unless passed."""
        if not self.passed:
            raise GateFailed(f"gate {self.gate!r} stopped the run: " + "; ".join(self.reasons))
