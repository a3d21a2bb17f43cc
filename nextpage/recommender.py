"""A release at work: histories in, ranked items out. Evaluation, serving and the command line all call this."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file

from nextpage.decoding.beam_search import generate, search
from nextpage.decoding.engine import Engine, Frontier, Prompts
from nextpage.decoding.engines.choice import AUTO, CHOICES, TORCH, Chosen, by_torch, choose_engine
from nextpage.decoding.filters import Filters, ItemFilter
from nextpage.decoding.prompt_cache import ExtendingEngine, PromptCache
from nextpage.decoding.prompts import prompts_of
from nextpage.decoding.repeat_prior import RepeatPriorConfig, mix_in_repeats
from nextpage.decoding.served_catalogue import ServedCatalogue
from nextpage.interactions.sequences import Sequences
from nextpage.layouts.pages import PagesConfig
from nextpage.models.decoder import CausalDecoder, DecoderConfig
from nextpage.progress import track
from nextpage.recipes import Recipe, read_recipe
from nextpage.release import FeatureService, verify
from nextpage.tokenizers.semantic_ids import SemanticIds


@dataclass(frozen=True, kw_only=True)
class DecodingConfig:
    """`beam_width` beams for each of up to `batch` prompts at a time, over the last `prompt_items` of a history.
    `engine` is what serves (CHOICES in `nextpage/decoding/engines/choice.py`); `bf16` is of torch."""

    beam_width: int = 64
    prompt_items: int = 384
    batch: int = 32
    bf16: bool = True
    engine: str = AUTO

    def __post_init__(self) -> None:
        if self.engine not in CHOICES:
            raise ValueError(f"decoding.engine is {self.engine!r}: use {', '.join(CHOICES)}")

    @property
    def dtype(self) -> torch.dtype:
        """Torch's."""
        return torch.bfloat16 if self.bf16 else torch.float32


@dataclass(frozen=True, kw_only=True)
class Query:
    """One request. The history is in time order; items that the release does not know are passed over."""

    item_ids: list[str]
    behaviours: list[int]  # places in BEHAVIOURS
    pages: list[int]
    times: list[int]  # seconds since 1970
    as_of: int  # seconds since 1970
    k: int
    allowed: ItemFilter | None = None  # by row of the catalogue that is asked


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """`score` is a log-probability."""

    item_id: str
    row: int
    score: float


@dataclass(frozen=True, kw_only=True)
class Rankings:
    """Item rows for the same S histories, int32 [S, k] each: best first, −1 where there are fewer."""

    model: np.ndarray  # the model alone
    with_prior: np.ndarray  # mixed with the recipe's repeat prior: what is recommended
    new: np.ndarray  # the model over the items that the history lacks; the prior, which holds none, changes nothing


class Recommender:
    """The model of a release, and the catalogue whose items it names, where it is not asked for another's."""

    def __init__(
        self,
        *,
        decoder: CausalDecoder,
        semantic_ids: SemanticIds,
        items: pa.Table,
        recipe: Recipe,
        chosen: Chosen | None = None,
    ) -> None:
        """`chosen`: the engine that runs the decoder; torch's where none is given."""
        self.catalogue = ServedCatalogue.of(semantic_ids, items)
        self.recipe = recipe
        self.release_name, self.release_hash = "unsealed", ""
        self.feature_service = FeatureService(name="", hash="")
        self._layout = recipe.part("layout", PagesConfig)
        self._decoding = recipe.part("decoding", DecodingConfig)
        self._prior = recipe.part("repeat_prior", RepeatPriorConfig)
        self.chosen = chosen or by_torch(decoder, self._decoding.dtype)
        self._engine: Engine[Any] = self.chosen.engine
        self._slack = 0
        self.prompt_cache: PromptCache[Any, Any] | None = None

    @property
    def semantic_ids(self) -> SemanticIds:
        """Of the release's own catalogue."""
        return self.catalogue.semantic_ids

    def cache_prompts(self, most_bytes: int, slack: int = 64) -> None:
        """Keep what is read of prompts between requests. Those of long histories begin up to `slack` events later then,
        which no metric tells from noise (`benchmarks/prompt_cache.py`); else each new event would shift them all.

        Does nothing where the engine cannot `extend`.
        """
        if isinstance(self._engine, ExtendingEngine):
            self.prompt_cache, self._slack = PromptCache(self._engine, most_bytes), slack
            self._engine = self.prompt_cache

    def recommend(self, queries: list[Query], catalogue: ServedCatalogue | None = None) -> list[list[Recommendation]]:
        """At most k distinct items for each query, best first, all allowed; fewer where fewer exist.

        An answer does not depend on the queries beside it: those that need a wider beam are searched apart. All are of
        one catalogue, by default the release's own.
        """
        catalogue = catalogue or self.catalogue
        answers: list[list[Recommendation]] = [[] for _ in queries]
        widths = np.array([self._beam_width(query.k) for query in queries])
        for width in np.unique(widths):
            places = np.flatnonzero(widths == width)
            together = [queries[place] for place in places]
            history = self._sequences(together, catalogue)
            allowed = [query.allowed for query in together]
            found = self._search(self._prompts(history, catalogue), width, allowed, catalogue)
            own = history.select(history.item < len(catalogue))  # without the departed
            ranked = mix_in_repeats(*found, own, self._prior, allowed)
            for place, query, rows, scores in zip(places, together, *ranked, strict=True):
                answers[place] = [
                    Recommendation(item_id=str(catalogue.semantic_ids.item_ids[row]), row=int(row), score=float(score))
                    for row, score in zip(rows[: query.k], scores[: query.k], strict=True)
                    if row >= 0
                ]
        return answers

    def rank(self, prompts: Sequences, k: int) -> np.ndarray:
        """What is recommended for each history: int32 [S, k] rows, best first, −1 where there are fewer."""
        return self.rankings(prompts, k).with_prior

    def rankings(self, prompts: Sequences, k: int) -> Rankings:
        """What is recommended for each history beside what the model alone says, from one prefill."""
        catalogue, ranked = self.catalogue, np.full((3, len(prompts), k), -1, dtype=np.int32)
        by_length = np.argsort(np.diff(prompts.offset), kind="stable")  # so that a batch pads little
        width = self._beam_width(k)
        size = self._decoding.batch
        batches = [by_length[start : start + size] for start in range(0, len(prompts), size)]
        for places in track(batches, total=len(batches), unit="batch", title="rank"):
            history = prompts.take(places)
            read = self._read(self._prompts(history, catalogue))
            rows, scores = self._search(read, width, None, catalogue)
            mixed, _ = mix_in_repeats(rows, scores, history, self._prior, None)
            unseen = [ItemFilter().without(items) for items in np.split(history.item, history.offset[1:-1])]
            new, _ = self._search(read, width, unseen, catalogue)
            ranked[:, places] = np.stack([rows, mixed, new])[..., :k]
        model, with_prior, new = ranked
        return Rankings(model=model, with_prior=with_prior, new=new)

    def generate_unconstrained(self, prompts: Sequences, beam_width: int) -> np.ndarray:
        """int [S, beam_width, L] codes decoded without the trie: some may name no item."""
        size, catalogue = self._decoding.batch, self.catalogue
        batches = (
            prompts.take(np.arange(start, min(start + size, len(prompts)))) for start in range(0, len(prompts), size)
        )
        asked = (self._prompts(batch, catalogue) for batch in batches)
        return np.concatenate([generate(self._engine, each, beam_width=beam_width).codes.numpy() for each in asked])

    def _beam_width(self, k: int) -> int:
        return max(k, self._decoding.beam_width)

    def _search(
        self,
        asked: Prompts | Frontier[Any],
        width: int,
        allowed: Sequence[ItemFilter | None] | None,
        catalogue: ServedCatalogue,
    ) -> tuple[np.ndarray, np.ndarray]:
        """By the model alone: rows int32 [S, width] and log-probabilities [S, width]."""
        whole = self.chosen.search or partial(search, self._engine)
        filters = None if allowed is None else Filters.of(allowed)
        found = whole(asked, catalogue.trie, beam_width=width, k=width, allowed=filters)
        return found.rows.numpy(force=True), found.log_prob.numpy(force=True)

    def _read(self, prompts: Prompts) -> Prompts | Frontier[Any]:
        """What several searches may begin from; an engine that runs whole searches begins each anew."""
        return self._engine.prefill(prompts) if self.chosen.search is None else prompts

    def _prompts(self, history: Sequences, catalogue: ServedCatalogue) -> Prompts:
        return prompts_of(history, catalogue.item_tokens, self._layout, self._decoding.prompt_items, self._slack)

    def _sequences(self, queries: list[Query], catalogue: ServedCatalogue) -> Sequences:
        as_of = np.array([query.as_of for query in queries], dtype=np.int64)
        item = np.array([catalogue.row.get(item, -1) for query in queries for item in query.item_ids], dtype=np.int32)
        sequences = Sequences(
            user_id=np.array([""] * len(queries), dtype=object),
            as_of=as_of,
            target_from=as_of,
            offset=np.cumsum([0, *(len(query.item_ids) for query in queries)]).astype(np.int64),
            item=item,
            behaviour=np.array([b for query in queries for b in query.behaviours], dtype=np.int8),
            page=np.array([page for query in queries for page in query.pages], dtype=np.int64),
            time=np.array([time for query in queries for time in query.times], dtype=np.int64),
        )
        return sequences.select(item >= 0)


def write_parts(
    folder: Path, *, decoder: CausalDecoder, semantic_ids: SemanticIds, items: pa.Table, recipe: Recipe
) -> None:
    """The files of a release that `load_recommender` reads; `nextpage.release.seal` makes it one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "decoder.json").write_text(json.dumps(asdict(decoder.config), indent=1))
    save_file(
        {name: weight.float().contiguous() for name, weight in decoder.state_dict().items()},
        folder / "weights.safetensors",
    )
    semantic_ids.write(folder / "semantic_ids.parquet")
    pq.write_table(items, folder / "items.parquet")
    recipe.write(folder / "recipe.yaml")


def read_decoder(folder: Path) -> CausalDecoder:
    """The model of a release or model folder, in fp32 on the CPU."""
    raw = json.loads((folder / "decoder.json").read_text())
    raw["level_ranges"] = tuple(tuple(bounds) for bounds in raw["level_ranges"])
    decoder = CausalDecoder(DecoderConfig(**raw))
    decoder.load_state_dict(load_file(folder / "weights.safetensors"))
    return decoder


def load_recommender(folder: Path, *, engine: str | None = TORCH, threads: int = 0) -> Recommender:
    """Open a sealed release. Raises ReleaseRefused where a file is not the one that was sealed.

    `engine`: one of `choice.CHOICES`, None: what the recipe says; `chosen.fallbacks` of the recommender tells what was
    passed over. Torch is the default, for figures that are to be had again on any machine. `threads`: see there.
    """
    manifest, decoder, recipe = verify(folder), read_decoder(folder), read_recipe(folder / "recipe.yaml")
    decoding = recipe.part("decoding", DecodingConfig)
    chosen = choose_engine(
        engine or decoding.engine, decoder, folder, manifest.hash, dtype=decoding.dtype, threads=threads
    )
    recommender = Recommender(
        decoder=decoder,
        semantic_ids=SemanticIds.read(folder / "semantic_ids.parquet"),
        items=pq.read_table(folder / "items.parquet"),
        recipe=recipe,
        chosen=chosen,
    )
    recommender.release_name, recommender.release_hash = manifest.name, manifest.hash
    recommender.feature_service = manifest.feature_service
    return recommender
