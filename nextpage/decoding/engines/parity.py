"""How far an engine is from the reference: on a probe that every start can afford, and on answers to real prompts."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nextpage.decoding.beam_search import Found
from nextpage.decoding.engine import Engine, Prompts
from nextpage.decoding.engines.eager import EagerEngine
from nextpage.tokenizers.vocabulary import Vocabulary

LENGTHS, BEAMS = (0, 3, 16), 4  # of the probe's prompts, and of its search


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Over the answers to B prompts. `items`: the share of the reference's items that were found too; `scores`: the
    largest difference of log-probabilities at one rank."""

    items: float
    scores: float


def agreement(reference: Found, found: Found) -> Agreement:
    """Ranks that one of the two leaves empty and the other does not differ without bound."""
    shared = [np.isin(*rows).mean() for rows in zip(reference.rows.numpy(), found.rows.numpy(), strict=True)]
    apart = (reference.log_prob - found.log_prob).abs()
    apart = apart.masked_fill(reference.log_prob == found.log_prob, 0.0)  # -inf both
    return Agreement(items=float(np.mean(shared)), scores=float(apart.max()))


def deviation(engine: Engine[Any], reference: EagerEngine) -> float:
    """The largest difference of log-probabilities on the probe: random prompts, one empty, and the beams of the
    reference's most likely codes. Levels are never skipped, so that keys, values and parents are all read."""
    sizes, largest = reference.sizes, 0.0
    items = np.random.default_rng(0).integers(0, sizes, size=(len(LENGTHS), max(LENGTHS), len(sizes)))
    tokens = torch.from_numpy(Vocabulary(sizes).tokens(items))
    if reference.decoder.merger is None:
        tokens = tokens[..., 0]
    device = reference.decoder.embed_tokens.weight.device
    prompts = Prompts(tokens=tokens, lengths=torch.tensor(LENGTHS)).to(device)
    expected, given = reference.prefill(prompts), engine.prefill(prompts)
    for level in range(len(sizes)):
        log_prob = expected.logits.float().log_softmax(-1)
        largest = max(largest, float((log_prob - given.logits.float().log_softmax(-1)).abs().max()))
        if level < len(sizes) - 1:
            best = log_prob.flatten(1).topk(min(BEAMS, log_prob[0].numel())).indices
            parents, codes = best // sizes[level], best % sizes[level]
            expected = reference.step(expected.state, parents, codes, level + 1)
            given = engine.step(given.state, parents, codes, level + 1)
    return largest
