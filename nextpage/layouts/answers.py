"""Histories with given answers to learn from: each answer a branch that hangs off its whole prompt."""

from collections.abc import Sequence

import numpy as np

from nextpage.interactions.sequences import Sequences
from nextpage.layouts.branches import assemble, branch_columns, context_columns
from nextpage.layouts.packed import Packed
from nextpage.layouts.pages import PagesConfig, prompt_events


def lay_out_answers(
    prompts: Sequences, answers: Sequence[np.ndarray], item_tokens: np.ndarray, config: PagesConfig, items: int
) -> Packed:
    """B prompts, each with its A_b answers: int [A_b, L] tokens, which need not name an item.

    A prompt is read as generation reads it, from its last `items` events; an answer as if it came next. The tokens to
    be learnt lie prompt by prompt, answer by answer, level by level, with nothing between them. item_tokens int64
    [I, L].
    """
    read = prompt_events(prompts, config).last(items)
    pairs = []
    for row, codes in enumerate(answers):
        history = slice(read.offset[row], read.offset[row + 1])
        context = context_columns(read, history, item_tokens, merged=config.merged)
        number, nothing = np.arange(len(codes)), np.zeros(len(codes), dtype=np.int64)
        asked_at = np.full(len(codes), prompts.as_of[row])
        pairs.append((context, branch_columns(codes, asked_at, number, nothing, context, branch_items=1)))
    return assemble(pairs, bin_size=item_tokens.shape[1], merged=config.merged)
