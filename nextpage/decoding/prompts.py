"""Histories as prompts: the context of training's layout, padded to a batch, and the SEP that asks for a page."""

import numpy as np
import torch

from nextpage.decoding.engine import Prompts
from nextpage.interactions.sequences import Sequences
from nextpage.layouts.features import context_features, request_features
from nextpage.layouts.pages import PagesConfig, prompt_events


def prompts_of(sequences: Sequences, item_tokens: np.ndarray, layout: PagesConfig, items: int) -> Prompts:
    """Ask for the next page of each history as of its `as_of`, from its last `items` events that the layout reads.

    item_tokens int64 [I, L]. The features of SEP stand at a prompt's length.
    """
    read = prompt_events(sequences, layout).last(items)
    features, lengths = context_features(read), np.diff(read.offset)
    batch, longest = len(read), int(lengths.max(initial=0))
    row = np.repeat(np.arange(batch), lengths)
    place = np.arange(len(read.item)) - np.repeat(read.offset[:-1], lengths)
    tokens = np.zeros((batch, longest, item_tokens.shape[1]), dtype=np.int64)
    tokens[row, place] = item_tokens[read.item]
    previous = np.where(lengths > 0, np.append(read.time, 0)[np.maximum(read.offset[1:] - 1, 0)], -1)
    padded = np.zeros((batch, longest + 1, features.shape[1]), dtype=np.int64)
    padded[row, place] = features
    padded[np.arange(batch), lengths] = request_features(read.as_of, previous)
    return Prompts(
        tokens=torch.from_numpy(tokens), lengths=torch.from_numpy(lengths), features=torch.from_numpy(padded)
    )
