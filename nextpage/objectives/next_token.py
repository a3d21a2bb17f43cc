"""GenRec Eq 4: the negative log-likelihood of a page's codes, given the history and the codes before them."""

import torch.nn.functional as F
from torch import Tensor

from nextpage.layouts.packed import IGNORED, Packed
from nextpage.models.attention import branch_attention
from nextpage.models.decoder import Attend, CausalDecoder
from nextpage.objectives.objective import Objective


def embed_packed(model: CausalDecoder, packed: Packed) -> Tensor:
    """Items of the context merged, where the layout says so; the other tokens plain → [N, D]"""
    x = model.embed(packed.tokens[:, 0])
    if not packed.merged_context:
        return x
    merged = model.embed_merged(packed.tokens[packed.is_context])
    return x.index_put((packed.is_context.nonzero(as_tuple=True)[0],), merged.to(x.dtype))


def token_losses(model: CausalDecoder, packed: Packed, attend: Attend | None = None) -> tuple[Tensor, Tensor]:
    """−log P(next token), in nats, of the M tokens with something to learn, and their weights → float32 [M], [M]"""
    hidden = model(embed_packed(model, packed), packed.position, attend or branch_attention(packed))
    learnt = packed.target != IGNORED
    logits = model.logits(hidden[learnt]).float()
    return F.cross_entropy(logits, packed.target[learnt], reduction="none"), packed.weight[learnt]


def next_token_loss(model: CausalDecoder, packed: Packed, attend: Attend | None = None) -> Tensor:
    """The weighted mean of `token_losses` → scalar."""
    losses, weights = token_losses(model, packed, attend)
    return (losses * weights).sum() / weights.sum()


def packed_flops(model: CausalDecoder, packed: Packed) -> float:
    """Forward floating-point operations; a token sees about as many keys as its position says."""
    keys = packed.position.float().mean().item() + 1
    return model.flops_per_token(keys) * len(packed)


class NextToken(Objective):
    """Next-token prediction over packed histories."""

    def __init__(self, model: CausalDecoder) -> None:
        super().__init__()
        self.model: CausalDecoder = model

    def forward(self, batch: Packed) -> tuple[Tensor, Tensor]:
        """Losses and weights, as `token_losses`."""
        return token_losses(self.model, batch)

    def flops(self, batch: Packed) -> float:
        return packed_flops(self.model, batch)

    def read_outside(self) -> tuple[Tensor, ...]:
        return (self.model.output_weight,)  # the tied head reads the embedding's
