"""What is compared, and how far it may move."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MonitorConfig:
    """Windows, sample and bounds.

    Bounds on distributions are Jensen–Shannon distances in nats: 0 for equal, √ln 2 = 0.83 for disjoint. 0.1 is
    reached when 3% of the rows take a value never seen before, or 14% move from one half of the values to the other.
    """

    reference_weeks: int = 40  # the first weeks of the log
    current_weeks: int = 4  # the last ones, at most a quarter of the log
    sample_rows: int = 100_000  # rows at most of each window
    input_bound: float = 0.1
    occupancy_bound: float = 0.1
    prediction_bound: float = 0.1
    quality_bound: float = 0.1  # relative drop of a metric: 0.1 is from 0.50 to 0.45
    predicted_requests: int = 600  # held-out pages that the release answers, where no logged answers are given
    hits_at: int = 10  # ranks of them, and ranks that count for the hit rate
    least_pages: int = 50  # a window with fewer pages is refused
    seed: int = 0  # of the sample and of the A/A halves

    def __post_init__(self) -> None:
        for name in ("reference_weeks", "current_weeks", "sample_rows", "predicted_requests", "hits_at", "least_pages"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least 1")
        for name in ("input_bound", "occupancy_bound", "prediction_bound", "quality_bound"):
            if not 0 < getattr(self, name) < 0.83:
                raise ValueError(f"{name} is {getattr(self, name)}, it must lie between 0 and 0.83")

    def bound(self, kind: str) -> float:
        """The bound of a kind of column: inputs, occupancy, predictions or quality."""
        bounds = {
            "inputs": self.input_bound,
            "occupancy": self.occupancy_bound,
            "predictions": self.prediction_bound,
            "quality": self.quality_bound,
        }
        return bounds[kind]
