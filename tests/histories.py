"""Random histories, tokens and a small model for tests that need no log."""

from dataclasses import replace

import numpy as np
import torch

from nextpage.interactions.sequences import Sequences
from nextpage.models.decoder import CausalDecoder, DecoderConfig
from nextpage.tokenizers.vocabulary import Vocabulary

DAY = 86_400
SIZES = (12, 12, 12)
VOCABULARY = Vocabulary(SIZES)


def random_sequences(users: int = 5, *, pages: int = 8, items: int = 90, seed: int = 0) -> Sequences:
    """Each user's pages are days apart and hold 1 to 9 items, strongest behaviour first; the later half is learnt."""
    draw = np.random.default_rng(seed)
    item, behaviour, page, time, offset, target_from = [], [], [], [], [0], []
    for user in range(users):
        start = 1_700_000_000 + user * 1000
        for number in range(pages):
            count = int(draw.integers(1, 10))
            item.append(draw.choice(items, count, replace=False))
            behaviour.append(np.sort(draw.integers(0, 3, count))[::-1])
            page.append(np.full(count, number))
            time.append(np.full(count, start + number * 3 * DAY))
        offset.append(sum(map(len, item)))
        target_from.append(start + pages // 2 * 3 * DAY)
    as_of = np.array([time_ + pages * 3 * DAY for time_ in target_from])
    return Sequences(
        user_id=np.array([f"u{user}" for user in range(users)], dtype=object),
        as_of=as_of,
        target_from=np.array(target_from),
        offset=np.array(offset),
        item=np.concatenate(item).astype(np.int32),
        behaviour=np.concatenate(behaviour).astype(np.int8),
        page=np.concatenate(page),
        time=np.concatenate(time),
    )


def random_item_tokens(items: int = 90, *, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return VOCABULARY.tokens(draw.integers(0, SIZES[0], (items, len(SIZES))))


def small_decoder(**changes: object) -> CausalDecoder:
    config = DecoderConfig(
        vocabulary_size=VOCABULARY.size,
        level_ranges=tuple(VOCABULARY.level_range(level) for level in range(len(SIZES))),
        width=32,
        layers=2,
        heads=4,
        kv_heads=2,
        head_width=8,
        mlp_width=48,
    )
    torch.manual_seed(0)
    return CausalDecoder(replace(config, **changes))
