"""How an engine does on real prompts: its answers, and how long it takes."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from nextpage.decoding.beam_search import Found, search
from nextpage.decoding.engine import Prompts
from nextpage.decoding.engines.choice import TORCH, Chosen
from nextpage.decoding.prompts import prompts_of
from nextpage.decoding.trie import Trie
from nextpage.evaluation.config import EvaluationConfig
from nextpage.evaluation.metrics import DEPTH
from nextpage.evaluation.trial import Trial, model_prompts, read_trial
from nextpage.interactions.log import Dataset
from nextpage.interactions.sequences import Sequences
from nextpage.layouts.pages import PagesConfig
from nextpage.progress import track
from nextpage.recipes import read_recipe
from nextpage.recommender import DecodingConfig
from nextpage.tokenizers.semantic_ids import SemanticIds
from nextpage.tokenizers.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class Asked:
    """R held-out pages, and all that turns them into searches."""

    trial: Trial
    histories: Sequences
    item_tokens: np.ndarray
    layout: PagesConfig
    decoding: DecodingConfig
    trie: Trie

    def prompts(self, rows: np.ndarray) -> Prompts:
        return prompts_of(self.histories.take(rows), self.item_tokens, self.layout, self.decoding.prompt_items)

    def find(self, chosen: Chosen, prompts: Prompts) -> Found:
        """As serving searches; the answer is on the CPU."""
        whole = chosen.search or partial(search, chosen.engine)
        found = whole(prompts, self.trie, beam_width=max(DEPTH, self.decoding.beam_width), k=DEPTH)
        return Found(rows=found.rows.cpu(), log_prob=found.log_prob.cpu())


def read_asked(release: Path, features: Path, clean: Path, *, split: str, requests: int) -> Asked:
    """What the release is asked: at most `requests` pages of `split`, as evaluation would."""
    recipe, semantic_ids = read_recipe(release / "recipe.yaml"), SemanticIds.read(release / "semantic_ids.parquet")
    evaluation, item_ids = recipe.part("evaluation", EvaluationConfig), semantic_ids.item_ids.tolist()
    trial = read_trial(
        Dataset(folder=clean),
        item_ids,
        split=split,
        limit=requests,
        relevant=evaluation.relevant,
        recent_days=evaluation.baselines.recent_days,
    )
    return Asked(
        trial=trial,
        histories=model_prompts(features / "evaluation.parquet", trial, item_ids),
        item_tokens=Vocabulary(semantic_ids.sizes).tokens(semantic_ids.codes),
        layout=recipe.part("layout", PagesConfig),
        decoding=recipe.part("decoding", DecodingConfig),
        trie=Trie.build(semantic_ids),
    )


def answers(chosen: Chosen, asked: Asked, title: str) -> Found:
    """To all R prompts, in batches of like length: [R, DEPTH]."""
    order, size = np.argsort(np.diff(asked.histories.offset), kind="stable"), asked.decoding.batch
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    rows, log_prob = torch.empty(len(order), DEPTH, dtype=torch.int32), torch.empty(len(order), DEPTH)
    for places in track(batches, total=len(batches), unit="batch", title=title):
        found = asked.find(chosen, asked.prompts(places))
        rows[places], log_prob[places] = found.rows, found.log_prob
    return Found(rows=rows, log_prob=log_prob)


def latencies(
    engines: Mapping[str, Chosen], asked: Asked, batches: Sequence[int], repeats: int
) -> dict[str, dict[str, float]]:
    """Median milliseconds of a search by engine and batch size, over the same prompts; engines take turns, so that what
    else the machine does strikes them alike."""
    draw = np.random.default_rng(0)
    found: dict[str, dict[str, float]] = {name: {} for name in engines}
    for batch in batches:
        drawn = [asked.prompts(draw.choice(len(asked.histories), batch)) for _ in range(repeats + 1)]
        taken: dict[str, list[float]] = {name: [] for name in engines}
        for prompts in drawn:
            for name, chosen in engines.items():
                with _torch_threads(torch.get_num_threads() if chosen.name == TORCH else 1):  # as where it serves
                    start = time.perf_counter()
                    asked.find(chosen, prompts)
                    taken[name].append((time.perf_counter() - start) * 1e3)
        for name, times in taken.items():
            found[name][str(batch)] = round(float(np.median(times[1:])), 3)  # the first sets up
    return found


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
