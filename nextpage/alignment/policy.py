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

BOUNDS = ("none", "gbpo")


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """`group` rollouts a prompt (G). `nll_weight` is α of Eq 8: 0 is plain GRPO. `bound`: "none", or "gbpo", which
    bounds the gradients of rollouts as OneRec-V2 does. `constrained` rollouts are drawn along the trie; the others may
    name no item, and then earn nothing."""

    group: int = 16
    nll_weight: float = 0.01
    bound: str = "none"
    constrained: bool = False

    def __post_init__(self) -> None:
        if self.group < 2:
            raise ValueError(f"group is {self.group}: an advantage is relative to a group of at least 2 rollouts")
        if self.nll_weight < 0:
            raise ValueError(f"nll_weight is {self.nll_weight}: it may not be negative")
        if self.bound not in BOUNDS:
            raise ValueError(f"bound {self.bound!r} is unknown: use one of {', '.join(BOUNDS)}")


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


def advantages(reward: Tensor) -> Tensor:
    """Rewards of groups, less their mean, over their standard deviation: float [B, G] → [B, G]; 0 in a group whose
    rewards are all alike."""
    centred = reward - reward.mean(dim=1, keepdim=True)
    deviation = centred.square().mean(dim=1, keepdim=True).sqrt()
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
