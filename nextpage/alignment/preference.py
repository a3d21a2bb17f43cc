"""Preference objectives: DPO (arXiv 2305.18290), and S-DPO (arXiv 2406.09215) with several rejected items."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nextpage.alignment.log_probs import answer_log_probs
from nextpage.layouts.packed import Packed
from nextpage.models.decoder import CausalDecoder
from nextpage.objectives.next_token import packed_flops
from nextpage.objectives.objective import Objective


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """P preferences over B prompts. Answers lie preference by preference: the chosen one, then its n rejected."""

    packed: Packed
    reference_log_prob: Tensor  # float32 [P, 1 + n], of whole answers by the model before alignment

    def __len__(self) -> int:
        return len(self.packed)

    @property
    def padding(self) -> float:
        return self.packed.padding

    def to(self, device: torch.device | str) -> "Preferences":
        return Preferences(packed=self.packed.to(device), reference_log_prob=self.reference_log_prob.to(device))


class Preference(Objective):
    """S-DPO's loss; with one rejected item it is DPO's."""

    def __init__(self, model: CausalDecoder, beta: float) -> None:
        super().__init__()
        self.model: CausalDecoder = model
        self.beta = beta

    def forward(self, batch: Preferences) -> tuple[Tensor, Tensor]:
        """Losses [P], which weigh alike."""
        log_prob = answer_log_probs(self.model, batch.packed).sum(dim=1).view_as(batch.reference_log_prob)
        losses = softmax_preference_loss(log_prob, batch.reference_log_prob, self.beta)
        return losses, torch.ones_like(losses)

    def flops(self, batch: Preferences) -> float:
        return packed_flops(self.model, batch.packed)

    def read_outside(self) -> tuple[Tensor, ...]:
        return (self.model.output_weight,)


def preference_loss(log_prob: Tensor, reference_log_prob: Tensor, beta: float) -> Tensor:
    """DPO, Eq 7: −log σ(β (Δ_chosen − Δ_rejected)), Δ = log π − log π_ref. float [P, 2] each → [P]"""
    margin = beta * (log_prob - reference_log_prob)
    return -F.logsigmoid(margin[:, 0] - margin[:, 1])


def softmax_preference_loss(log_prob: Tensor, reference_log_prob: Tensor, beta: float) -> Tensor:
    """S-DPO, Eq 12: −log σ(−log Σ_rejected exp(β (Δ_rejected − Δ_chosen))). float [P, 1 + n] each → [P]"""
    margin = beta * (log_prob - reference_log_prob)
    return -F.logsigmoid(-torch.logsumexp(margin[:, 1:] - margin[:, :1], dim=1))
