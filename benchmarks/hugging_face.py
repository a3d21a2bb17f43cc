"""Hugging Face's constrained beam search over our weights: the side that benchmarks hold ours against.

`generate` gets the prompts as embedded by our decoder (it has no token merger) and its own
`PrefixConstrainedLogitsProcessor` over a dict of prefixes; before that, scores are normalised over the codes of the
level, as ours are.
"""

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, Qwen2Config, Qwen2ForCausalLM
from transformers.generation.logits_process import PrefixConstrainedLogitsProcessor

from nextpage.decoding.engine import Prompts
from nextpage.models.decoder import CausalDecoder
from nextpage.tokenizers.semantic_ids import SemanticIds
from nextpage.tokenizers.vocabulary import PAD, SEP, Vocabulary


class LevelLogSoftmax(LogitsProcessor):
    """Scores [rows, V] normalised over the codes of the level that comes next; no other token is left."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self.ranges = [Vocabulary(sizes).level_range(level) for level in range(len(sizes))]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        start, stop = self.ranges[input_ids.shape[1]]
        level = torch.full_like(scores, -torch.inf)
        level[:, start:stop] = scores[:, start:stop].log_softmax(-1)
        return level


def qwen2(decoder: CausalDecoder) -> Qwen2ForCausalLM:
    """The decoder's weights in Hugging Face's model, but for the token merger, which it does not have."""
    config = decoder.config
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=config.vocabulary_size,
            hidden_size=config.width,
            intermediate_size=config.mlp_width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            head_dim=config.head_width,
            rms_norm_eps=config.norm_epsilon,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=True,
        )
    ).eval()
    weights = {name: weight for name, weight in decoder.state_dict().items() if "merger" not in name}
    model.model.load_state_dict(weights)
    return model


def held_to_catalogue(table: SemanticIds, beams: int) -> LogitsProcessor:
    """Leaves the tokens that lead to an item, by a dict of prefixes."""
    children: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
    for path in Vocabulary(table.sizes).tokens(table.codes).tolist():
        for level, token in enumerate(path):
            children[tuple(path[:level])].add(token)
    allowed = {prefix: sorted(following) for prefix, following in children.items()}
    return PrefixConstrainedLogitsProcessor(lambda _, prefix: allowed.get(tuple(prefix.tolist()), [PAD]), beams)


def embedded(decoder: CausalDecoder, prompts: Prompts) -> Tensor:
    """Prompts of one length and the SEP that ends each, as our decoder embeds them: [B, T + 1, D]"""
    embed = decoder.embed_merged if prompts.tokens.ndim == 3 else decoder.embed
    sep = decoder.embed(torch.full_like(prompts.lengths, SEP))[:, None]
    return torch.cat([embed(prompts.tokens), sep], dim=1)


def hugging_face(decoder: CausalDecoder, table: SemanticIds, beams: int) -> Callable[[Prompts], Tensor]:
    """Their search, as prompts → rows [B, beams]. Items must not share a semantic ID: it cannot tell them apart."""
    model, paths = qwen2(decoder), Vocabulary(table.sizes).tokens(table.codes).tolist()
    rows = {tuple(path): row for row, path in enumerate(paths)}
    processors = LogitsProcessorList([LevelLogSoftmax(table.sizes), held_to_catalogue(table, beams)])

    @torch.inference_mode()
    def run(prompts: Prompts) -> Tensor:
        read = embedded(decoder, prompts)
        generated = model.generate(
            inputs_embeds=read,
            attention_mask=torch.ones(read.shape[:2], dtype=torch.int64),
            max_new_tokens=len(table.sizes),
            num_beams=beams,
            num_return_sequences=beams,
            do_sample=False,
            length_penalty=0.0,
            eos_token_id=None,
            pad_token_id=PAD,
            logits_processor=processors,
        )
        found = [rows.get(tuple(path), -1) for path in generated.tolist()]
        return torch.tensor(found).view(len(read), beams)

    return run
