"""What a recipe says of alignment."""

from dataclasses import dataclass, field

from nextpage.alignment.gate import AlignmentGateConfig
from nextpage.alignment.pairs import PreferenceConfig
from nextpage.alignment.policy import PolicyConfig
from nextpage.training.config import LoopConfig

OBJECTIVES = ("policy", "preference", "none")


@dataclass(frozen=True, kw_only=True)
class AlignmentConfig:
    """`objective`: "policy" (GRPO, GRPO-SR, GBPO: as `policy` says), "preference" (DPO, S-DPO: as `preference` says) or
    "none", which leaves the model as it is. A step learns from `prompts` pages, read to their last `prompt_items`
    events. The weights that go on lie the share `interpolation` of the way from the base to where training ended
    (WiSE-FT, arXiv 2109.01903): most of what was learnt, less of what was lost. `watched`: held-out requests that are
    asked at every line of the log, for the picture of its course."""

    objective: str = "policy"
    prompts: int = 16
    prompt_items: int = 256
    interpolation: float = 1.0
    watched: int = 150
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    preference: PreferenceConfig = field(default_factory=PreferenceConfig)
    gate: AlignmentGateConfig = field(default_factory=AlignmentGateConfig)
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(steps=120, learning_rate=1e-4, warmup=0.05, weight_decay=0.0, log_every=20)
    )

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective {self.objective!r} is unknown: use one of {', '.join(OBJECTIVES)}")
        if not 0 < self.interpolation <= 1:
            raise ValueError(f"interpolation is {self.interpolation}: use a share above 0, of at most 1")
        if self.loop.zero_stage == 3:
            raise ValueError("zero_stage is 3, but alignment reads whole weights to draw from: use 1 or 2")
