"""What the training loop is told."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How the loop runs, whatever it learns; `zero_stage` is DeepSpeed's (0 to 3)."""

    steps: int = 2_000
    learning_rate: float = 1e-3
    warmup: float = 0.01  # share of the steps
    weight_decay: float = 0.3
    clip: float = 1.0
    bf16: bool = True
    zero_stage: int = 1
    checkpoint_every: int = 100
    keep_checkpoints: int = 2
    log_every: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}: use at least 1")
        if self.zero_stage not in (0, 1, 2, 3):
            raise ValueError(f"zero_stage {self.zero_stage} is none of DeepSpeed's: use 0, 1, 2 or 3")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(LoopConfig):
    """Of next-page prediction: one step learns from about `batch_tokens` tokens over all processes."""

    batch_tokens: int = 2_000
    pretrained: str = ""  # folder of a Qwen2 checkpoint to take the layers from; the model must have its shape

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_tokens < 1:
            raise ValueError(f"batch_tokens is {self.batch_tokens}: use at least 1")
