"""What is built, and what it must show to be kept."""

from dataclasses import dataclass, field

from nextpage.evaluation.bootstrap import BootstrapConfig

PRECISION = {"onnx": "fp32", "onnx-int8": "int8", "tensorrt": "bf16"}
"""Of the engines that can be built, the first two for CPUs."""


@dataclass(frozen=True, kw_only=True)
class OptimiseConfig:
    """`engines` are built and asked `requests` held-out pages of `split`, as the reference, torch in fp32, is.

    In fp32 an engine must give the reference's items, but for a share of `changed_items`, with log-probabilities within
    `score_bound`. Rounded, it is judged by what was really chosen: recall at each of `cutoffs` may be `recall_margin`
    lower (absolute), by the lower end of the paired interval. Latency is the median of `repeats` searches at each of
    `batches`, in turn with torch as it would serve."""

    engines: tuple[str, ...] = ("onnx", "onnx-int8")
    split: str = "validation"
    requests: int = 400
    score_bound: float = 0.001
    changed_items: float = 0.001
    recall_margin: float = 0.01
    cutoffs: tuple[int, ...] = (10, 50)
    batches: tuple[int, ...] = (1, 8)
    repeats: int = 20
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)

    def __post_init__(self) -> None:
        unknown = set(self.engines) - set(PRECISION)
        if unknown:
            raise ValueError(f"no engine {', '.join(sorted(unknown))} can be built: use {', '.join(PRECISION)}")
        if self.split == "test":
            raise ValueError("engines are chosen by split 'test', which is kept for evaluation: use 'validation'")
        if self.score_bound <= 0 or self.recall_margin < 0 or min(self.requests, self.repeats, *self.batches) < 1:
            raise ValueError(
                f"score_bound {self.score_bound} must be positive, recall_margin {self.recall_margin} at least 0, and "
                f"requests {self.requests}, repeats {self.repeats} and batches {self.batches} at least 1"
            )
