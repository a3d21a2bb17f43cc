"""What became of each engine, as figures, a verdict and what will answer."""

from dataclasses import dataclass, field

from nextpage.decoding.engines.engine_folder import EngineKey
from nextpage.decoding.engines.parity import Agreement
from nextpage.evaluation.bootstrap import Interval
from nextpage.gates import Verdict


@dataclass(frozen=True, kw_only=True)
class Tried:
    """An engine beside the reference. `refused`: why it is left out; empty where it is kept."""

    name: str
    refused: str = ""
    agreement: Agreement | None = None  # None: it did not run
    differences: dict[str, Interval] = field(default_factory=dict)  # of recall, engine − reference
    key: EngineKey | None = None  # of what is kept


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All that was tried on `requests` held-out pages, and milliseconds of torch as it would serve, by batch size."""

    tried: tuple[Tried, ...]
    requests: int
    torch_latency_ms: dict[str, float]

    @property
    def fastest(self) -> EngineKey | None:
        """What `auto` will take: the kept engine that is the fastest, if it is faster than torch."""
        keys = [one.key for one in self.tried if one.key is not None and one.key.speed > 1]
        return max(keys, key=lambda key: key.speed, default=None)

    @property
    def verdict(self) -> Verdict:
        """Passed where no engine was left out. It stops nothing: what is left out is not served, torch is."""
        left_out = tuple(f"{one.name} is left out: {one.refused}" for one in self.tried if one.refused)
        kept = ", ".join(f"{one.name} ({one.key.speed:.2f} times torch)" for one in self.tried if one.key) or "none"
        return Verdict(gate="engines", passed=not left_out, reasons=left_out or (f"kept: {kept}",))

    @property
    def figures(self) -> dict[str, float]:
        """Under names that a list of metrics can hold: torch_ms_1, onnx_int8_ms_8 and so on."""
        took = {"torch": self.torch_latency_ms} | {one.name: dict(one.key.latency_ms) for one in self.tried if one.key}
        return {
            f"{name.replace('-', '_')}_ms_{size}": milliseconds
            for name, by_size in took.items()
            for size, milliseconds in by_size.items()
        }
