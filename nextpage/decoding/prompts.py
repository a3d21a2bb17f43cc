"""Histories as prompts: the context of training's layout, padded to a batch; the engine adds the SEP."""

import numpy as np
import torch

from nextpage.decoding.engine import Prompts
from nextpage.decoding.windows import anchored
from nextpage.interactions.sequences import Sequences
from nextpage.layouts.pages import PagesConfig, prompt_events


def prompts_of(
    sequences: Sequences, item_tokens: np.ndarray, layout: PagesConfig, items: int, slack: int = 0
) -> Prompts:
    """Ask for the next page of each history, from its last `items` events that the layout reads; with `slack`, up to
    that many fewer, so that a history that grows keeps its beginning for a while (`anchored`).

    item_tokens int64 [I, L].
    """
    read = prompt_events(sequences, layout)
    read = anchored(read, items, slack) if slack else read.last(items)
    lengths = np.diff(read.offset)
    batch, longest = len(read), int(lengths.max(initial=0))
    row = np.repeat(np.arange(batch), lengths)
    place = np.arange(len(read.item)) - np.repeat(read.offset[:-1], lengths)
    levels = item_tokens.shape[1]
    tokens = torch.zeros(batch, longest, levels, dtype=torch.int64)
    tokens[row, place] = torch.from_numpy(item_tokens[read.item])
    if not layout.merged:
        tokens, lengths = tokens.flatten(1), lengths * levels
    return Prompts(tokens=tokens, lengths=torch.from_numpy(lengths))
