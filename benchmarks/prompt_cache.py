"""What the prompt cache saves, and how often it can: CPU milliseconds of a search, and hits with windows that stay.

    python benchmarks/prompt_cache.py [--quick] [--json FILE]
    python benchmarks/prompt_cache.py --windows runs/demo [--requests 1500]

The first: a whole search (prefill, beams, selection; default decoder, random weights, 27,007 items at 3 × 256 codes, 64
beams, bf16, one thread) of users who come back with 0 to 10 new events, beside that of the same prompts without the
cache, at batches of 1 and 32. Medians over the repeats, side by side in one run; seed 0.

The second, on a run's release and its evaluation requests: HR@10 and the share of hits at 50 of the model with windows
of the last 384 events and with windows that begin at an anchor up to 64 events later, with the paired difference and
its 95% interval; and the share of prompts that begin like the one before, where each history is asked for again after
1 to 10 more of its own events.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nextpage.decoding.beam_search import search
from nextpage.decoding.engine import Prompts
from nextpage.decoding.engines.eager import EagerEngine
from nextpage.decoding.prompt_cache import PromptCache
from nextpage.decoding.trie import Trie
from nextpage.models.decoder import CausalDecoder, DecoderConfig
from nextpage.tokenizers.semantic_ids import SemanticIds
from nextpage.tokenizers.vocabulary import Vocabulary

ITEMS, SIZES, BEAMS = 27_007, (256, 256, 256), 64
NEW = (0, 1, 5, 10)
WINDOW, SLACK = 384, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--windows", type=Path, help="a run's folder: measure windows on its evaluation requests")
    parser.add_argument("--requests", type=int, default=1500)
    args = parser.parse_args()
    torch.set_num_threads(1)
    figures = windows(args.windows, args.requests) if args.windows else searches(repeats=3 if args.quick else 15)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))


def searches(repeats: int) -> list[dict[str, Any]]:
    draw = np.random.default_rng(0)
    codes = draw.integers(0, SIZES[0], (ITEMS, len(SIZES)))
    table = SemanticIds.sorted(np.arange(ITEMS).astype(str).astype(object), codes, SIZES)
    vocabulary = Vocabulary(SIZES)
    levels = tuple(vocabulary.level_range(level) for level in range(len(SIZES)))
    torch.manual_seed(0)
    decoder = CausalDecoder(DecoderConfig(vocabulary_size=vocabulary.size, level_ranges=levels)).eval()
    engine, trie = EagerEngine(decoder, dtype=torch.bfloat16), Trie.build(table)
    tokens = torch.from_numpy(vocabulary.tokens(table.codes))
    figures = []
    print(f"{'events':>6} {'new':>4} {'batch':>5} {'without ms':>11} {'with ms':>9} {'times':>6}")
    for events in (128, 384):
        for batch in (1, 32):
            for new in NEW:
                without, cached = [], []
                for _ in range(repeats + 1):
                    rows = torch.from_numpy(draw.integers(0, ITEMS, (batch, events)))
                    whole = Prompts(tokens=tokens[rows], lengths=torch.full((batch,), events))
                    before = Prompts(tokens=tokens[rows[:, : events - new]], lengths=whole.lengths - new)
                    cache = PromptCache(engine, 1 << 30)
                    cache.prefill(before)
                    without.append(seconds(engine, whole, trie))
                    cached.append(seconds(cache, whole, trie))
                    assert cache.misses == batch
                plain, quick = (1000 * statistics.median(times[1:]) for times in (without, cached))
                figures.append({"events": events, "new": new, "batch": batch, "without_ms": plain, "with_ms": quick})
                print(f"{events:>6} {new:>4} {batch:>5} {plain:>11.1f} {quick:>9.1f} {plain / quick:>6.2f}", flush=True)
    return figures


def seconds(engine: EagerEngine | PromptCache[Any, Any], prompts: Prompts, trie: Trie) -> float:
    began = time.process_time()
    search(engine, prompts, trie, beam_width=BEAMS, k=BEAMS)
    return time.process_time() - began


def windows(run: Path, requests: int) -> list[dict[str, Any]]:
    from nextpage.decoding.windows import anchored
    from nextpage.evaluation.config import EvaluationConfig
    from nextpage.evaluation.metrics import DEPTH, hits
    from nextpage.evaluation.trial import model_prompts, read_trial
    from nextpage.interactions.log import Dataset
    from nextpage.recommender import load_recommender

    (artifacts,) = sorted((run / "artifacts").glob("*"))[-1:]
    last, sliding = (load_recommender(run / "release") for _ in range(2))
    sliding.cache_prompts(1 << 20, SLACK)
    config, item_ids = last.recipe.part("evaluation", EvaluationConfig), last.semantic_ids.item_ids.tolist()
    trial = read_trial(
        Dataset(folder=artifacts / "validate" / "clean"),
        item_ids,
        split=config.split,
        limit=requests,
        relevant=config.relevant,
        recent_days=config.baselines.recent_days,
    )
    prompts = model_prompts(artifacts / "features" / "features" / "evaluation.parquet", trial, item_ids)
    figures: list[dict[str, Any]] = []
    found = [hits(each.rankings(prompts, DEPTH).model, trial.truth) for each in (last, sliding)]
    for name, cutoff in (("HR@10", 10), ("HR@50", 50)):
        here, there = (hit[:, :cutoff].any(axis=1).astype(float) for hit in found)
        difference, error = (there - here).mean(), 1.96 * (there - here).std() / len(here) ** 0.5
        print(f"{name}: last {here.mean():.4f}, anchored {there.mean():.4f}, {difference:+.4f} ± {error:.4f}")
        figures.append({"metric": name, "last": here.mean(), "anchored": there.mean(), "error": error})
    draw = np.random.default_rng(0)
    lengths = np.diff(prompts.offset)
    cut = np.minimum(draw.integers(1, 11, len(prompts)), lengths)
    place = np.arange(len(prompts.item)) - np.repeat(prompts.offset[:-1], lengths)
    earlier = prompts.select(place < np.repeat(lengths - cut, lengths))
    for name, slack in (("last", 0), ("anchored", SLACK)):
        now, then = ((anchored(each, WINDOW, slack) if slack else each.last(WINDOW)) for each in (prompts, earlier))
        kept = np.mean([begins_alike(now, then, row) for row in range(len(now))])
        print(f"{name}: {kept:.1%} of prompts begin with the whole of the one before")
        figures.append({"windows": name, "kept": kept})
    return figures


def begins_alike(now: Any, then: Any, row: int) -> bool:
    here, before = (each.item[each.offset[row] : each.offset[row + 1]] for each in (now, then))
    return bool(len(before) and np.array_equal(here[: len(before)], before))


if __name__ == "__main__":
    main()
