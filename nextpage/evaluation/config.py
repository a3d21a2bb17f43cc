"""What a recipe says of evaluation."""

from dataclasses import dataclass, field

from nextpage.evaluation.baselines import BaselineConfig
from nextpage.evaluation.bootstrap import BootstrapConfig
from nextpage.evaluation.gates import RecallGateConfig


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """`requests`: pages of `split` that are asked, a fixed sample (None: all). `relevant`: behaviours that count as
    truth. `generated_beams`: code tuples a prompt that are generated without the trie, and `generated_requests` the
    prompts, for the share that names no item."""

    split: str = "test"
    requests: int | None = 1_500
    relevant: tuple[str, ...] = ("ordered",)
    generated_requests: int = 200
    generated_beams: int = 50
    baselines: BaselineConfig = field(default_factory=BaselineConfig)
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    gate: RecallGateConfig = field(default_factory=RecallGateConfig)
