"""What is compared, and how far it may move."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MonitorConfig:
    """Windows, sample and bounds.

    Bounds on distributions are Jensen–Shannon distances in nats: 0 for equal, √ln 2 = 0.83 for disjoint. Between weeks
    1–40 and 50–53 of The Complete Journey columns move by 0.01 to 0.07; 0.1 is the first step outside the ordinary.
    """

    reference_weeks: int = 40  # the first weeks of the log
    current_weeks: int = 4  # the last ones, at most a quarter of the log
    sample_rows: int = 100_000  # rows at most of each window
    input_bound: float = 0.1
    occupancy_bound: float = 0.1
    prediction_bound: float = 0.1
    quality_bound: float = 0.1  # relative drop of a metric: 0.1 is from 0.50 to 0.45
    hits_at: int = 10  # ranks that count for the hit rate of predictions
    least_pages: int = 50  # a window with fewer pages is refused
    seed: int = 0  # of the sample and of the A/A halves

    def __post_init__(self) -> None:
        for name in ("reference_weeks", "current_weeks", "sample_rows", "hits_at", "least_pages"):
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
