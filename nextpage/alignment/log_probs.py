"""How likely a model finds given answers, with gradients: what every objective of alignment is made of."""

import torch
from torch import Tensor

from nextpage.layouts.packed import IGNORED, Packed
from nextpage.models.attention import branch_attention
from nextpage.models.decoder import CausalDecoder
from nextpage.objectives.next_token import embed_packed


def answer_log_probs(model: CausalDecoder, packed: Packed) -> Tensor:
    """log π of each code of the A answers of `lay_out_answers`, over the codes of its level as in generation → float32
    [A, L]"""
    hidden = model(embed_packed(model, packed), packed.position, branch_attention(packed))
    learnt = packed.target != IGNORED
    ranges = model.config.level_ranges
    hidden_ALD = hidden[learnt].view(-1, len(ranges), hidden.shape[-1])
    target_AL = packed.target[learnt].view(-1, len(ranges))
    levels = []
    for level, (start, _) in enumerate(ranges):
        log_prob = model.code_logits(hidden_ALD[:, level], level).float().log_softmax(-1)
        levels.append(log_prob.gather(1, target_AL[:, level, None] - start)[:, 0])
    return torch.stack(levels, dim=1)
