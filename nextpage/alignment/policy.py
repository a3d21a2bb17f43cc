"""Policy objectives: GRPO, GRPO-SR (GenRec Eq 8) and GBPO, over answers that the policy itself has just drawn.

One rollout is one item, one update is made of each batch, so π_old = sg(π): a ratio has the value 1, and its gradient
is that of log π.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nextpage.alignment.log_probs import answer_log_probs
from nextpage.layouts.packed import Packed
from nextpage.models.decoder import CausalDecoder
from nextpage.objectives.next_token import packed_flops
from nextpage.objectives.objective import Objective

ROLLOUTS, SPREADS, BOUNDS = ("beams", "draws"), ("batch", "group"), ("none", "gbpo")


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """How the policy is asked and what it learns from its answers.

    `group` rollouts a prompt (G): the policy's likeliest answers ("beams", all distinct), or independent "draws".
    `constrained` ones follow the trie; the others may name no item, and then earn nothing. `nll_weight` is α of Eq 8: 0
    is plain GRPO. `entropy`: what is added to a reward for each nat of an item's −log π, which keeps a policy that
    spreads over a page's many items from collapsing onto a few (maximum-entropy RL, arXiv 1702.08165). `spread`:
    rewards, less their group's mean, are divided by the standard deviation of the "group" (GRPO) or of the whole
    "batch" (arXiv 2501.03262), where groups that differ more weigh more. `bound`: "gbpo" bounds gradients as OneRec-V2
    does.
    """

    group: int = 24
    rollouts: str = "beams"
    constrained: bool = False
    nll_weight: float = 0.01
    entropy: float = 0.05
    spread: str = "batch"
    bound: str = "none"

    def __post_init__(self) -> None:
        if self.group < 2:
            raise ValueError(f"group is {self.group}: an advantage is relative to a group of at least 2 rollouts")
        if self.nll_weight < 0:
            raise ValueError(f"nll_weight is {self.nll_weight}: it may not be negative")
        if self.entropy < 0:
            raise ValueError(f"entropy is {self.entropy}: it may not be negative")
        for name, known in (("rollouts", ROLLOUTS), ("spread", SPREADS), ("bound", BOUNDS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r} is unknown: use one of {', '.join(known)}")


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """B prompts and their A answers: of each prompt G rollouts, and the items of the page that was really chosen."""

    packed: Packed
    prompt: Tensor  # int64 [A]
    is_rollout: Tensor  # bool [A]; the others are positives
    advantage: Tensor  # float32 [A], 0 of positives
    prompts: int

    def __len__(self) -> int:
        return len(self.packed)

    @property
    def padding(self) -> float:
        return self.packed.padding

    def to(self, device: torch.device | str) -> "Rollouts":
        return Rollouts(
            packed=self.packed.to(device),
            prompt=self.prompt.to(device),
            is_rollout=self.is_rollout.to(device),
            advantage=self.advantage.to(device),
            prompts=self.prompts,
        )


def advantages(reward: Tensor, spread: str = "group") -> Tensor:
    """Rewards of groups, less their mean, over the standard deviation of the group or of the whole batch: float [B, G]
    → [B, G]; 0 in a group whose rewards are all alike."""
    centred = reward - reward.mean(dim=1, keepdim=True)
    deviation = centred.square().mean(dim=None if spread == "batch" else 1, keepdim=True).sqrt()
    return torch.where(deviation > 1e-6, centred / deviation.clamp(min=1e-6), 0.0)


class PolicyGradient(Objective):
    """Eq 8: −(1/G) Σ_i (1/|o_i|) Σ_t (π/sg(π)) Â_i − α Σ_{v ∈ D+} Σ_t log π(v_t | S_u, v_<t), a loss a prompt."""

    def __init__(self, model: CausalDecoder, config: PolicyConfig) -> None:
        super().__init__()
        self.model: CausalDecoder = model
        self.config = config

    def forward(self, batch: Rollouts) -> tuple[Tensor, Tensor]:
        """Losses [B] of the prompts, which weigh alike."""
        log_prob = answer_log_probs(self.model, batch.packed)
        surrogate = _ratio(log_prob, batch.advantage, self.config.bound).mean(dim=1) * batch.advantage
        own = -surrogate / self.config.group - torch.where(
            batch.is_rollout, 0.0, self.config.nll_weight * log_prob.sum(dim=1)
        )
        losses = own.new_zeros(batch.prompts).index_add(0, batch.prompt, own)
        return losses, torch.ones_like(losses)

    def flops(self, batch: Rollouts) -> float:
        return packed_flops(self.model, batch.packed)

    def read_outside(self) -> tuple[Tensor, ...]:
        return (self.model.output_weight,)


def _ratio(log_prob: Tensor, advantage: Tensor, bound: str) -> Tensor:
    """π/π_old of each code, float [A, L]; log_prob [A, L], advantage [A].

    GBPO (OneRec-V2, arXiv 2508.20900): the denominator of a rollout that is worse than its group is at least 1 − sg(π),
    so that, as in binary cross-entropy, what is unlikely already is not pushed away without bound.
    """
    held = log_prob.detach()
    if bound == "gbpo":
        floor = torch.log1p(-held.exp().clamp(max=1 - 1e-6))
        held = torch.where(advantage[:, None] < 0, torch.maximum(held, floor), held)
    return (log_prob - held).exp()
