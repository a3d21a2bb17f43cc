"""Where training starts: a decoder that copies from the history before it has learnt anything.

Plain random weights leave a small model on a plateau, where it knows what is popular and not yet that people repeat
themselves. Mimetic initialisation (arXiv 2305.09828) starts attention as the look-up that training would find: keys
begin as queries, so that a code attends to items that bear it, and output projections begin as the value projections
transposed, so that what is attended to passes through to the tied head. A SEP then adds up the whole history, which is
the user's own frequencies.
"""

import torch

from nextpage.models.decoder import CausalDecoder, DecoderLayer

EMBEDDING = 0.06
"""Standard deviation of token embeddings: the tied head then gives repeated codes logits of the right size."""
QUERY = 0.03
"""Of query and key weights: enough to prefer what bears the same code, too little for a token to see only itself."""
PASSED_ON = 0.3
"""How much of an attended value the output projection adds."""


@torch.no_grad()
def mimetic(decoder: CausalDecoder, seed: int) -> None:
    """Set embeddings, merger and attention in place; MLPs and norms keep what they have."""
    draw, config = torch.Generator().manual_seed(seed), decoder.config
    torch.nn.init.normal_(decoder.embed_tokens.weight, std=EMBEDDING, generator=draw)
    if decoder.merger is not None:
        levels = len(config.level_ranges)
        decoder.merger.linear.weight.copy_(torch.eye(config.width).repeat(1, levels) / levels**0.5)
    repeats = config.heads // config.kv_heads
    for layer in decoder.layers:
        assert isinstance(layer, DecoderLayer)
        attention = layer.self_attn
        shape = (config.kv_heads, config.head_width, config.width)
        keys = QUERY * torch.randn(shape, generator=draw)
        values = torch.randn(shape, generator=draw) / config.width**0.5
        queries = keys.repeat_interleave(repeats, dim=0).flatten(0, 1)
        attention.k_proj.weight.copy_(keys.flatten(0, 1))
        attention.q_proj.weight.copy_(queries + QUERY / 3 * torch.randn(queries.shape, generator=draw))
        attention.v_proj.weight.copy_(values.flatten(0, 1))
        attention.o_proj.weight.copy_(PASSED_ON * values.repeat_interleave(repeats, dim=0).flatten(0, 1).mT)
