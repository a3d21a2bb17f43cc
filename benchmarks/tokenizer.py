"""Print what the tokenizer costs and how good its codes are.

    python benchmarks/tokenizer.py [scale] [peer] [journey] [--threads 2] [--data FOLDER]

scale     residual k-means on 1M × 256 made vectors at 3 × 256 codes, and unique codes for all of them
peer      one level, 256 codes, beside scikit-learn's MiniBatchKMeans with the same batch, three seeds: inertia and time
journey   The Complete Journey: the tokenize step on the whole log, what each choice of vectors is worth, cold items

Made vectors: 5,000 Gaussian centres, shares by Zipf, noise as long as half a centre, seed 0. `journey` needs a dataset
folder (`--data`), or makes one. AUC: of pairs from held-out baskets (weeks 50 to 53), how often the item bought with it
is nearer than another, drawn by popularity; 200,000 pairs, seed 0. CPU seconds are summed over threads, and tell
less of what else the machine does.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from components.tokenize.card import card
from components.tokenize.step import tokenize
from nextpage.catalogue.collaborative import CollaborativeConfig, item_vectors
from nextpage.catalogue.pages import PageItems, page_items
from nextpage.catalogue.text import encode_texts, text_encoder, unit
from nextpage.interactions.histories import read_histories, split_of_events, training_histories
from nextpage.interactions.loaders import Source, load
from nextpage.interactions.log import Dataset
from nextpage.tokenizers.kmeans import kmeans, nearest
from nextpage.tokenizers.residual_kmeans import ResidualKMeans
from nextpage.tokenizers.unique_codes import assign


@dataclass
class Clock:
    wall: float = 0.0
    cpu: float = 0.0

    def __str__(self) -> str:
        return f"{self.wall:.1f} s ({self.cpu:.1f} s CPU)"


@contextmanager
def clocked() -> Iterator[Clock]:
    clock = Clock()
    wall, cpu = time.perf_counter(), time.process_time()
    yield clock
    clock.wall, clock.cpu = time.perf_counter() - wall, time.process_time() - cpu


def made_vectors(count: int, dimensions: int = 256, *, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    centres = draw.standard_normal((5_000, dimensions), dtype=np.float32)
    share = 1.0 / np.arange(1, 5_001)
    vectors = centres[draw.choice(5_000, size=count, p=share / share.sum())]
    for start in range(0, count, 100_000):
        block = vectors[start : start + 100_000]
        block += 0.5 * draw.standard_normal(block.shape, dtype=np.float32)
    return vectors


def scale() -> None:
    vectors = made_vectors(1_000_000)
    with clocked() as fitting:
        quantiser = ResidualKMeans().fit(vectors)
    with clocked() as placing:
        placed = assign(quantiser, vectors, popularity=np.zeros(len(vectors)))
    some = slice(0, 50_000)
    left = np.square(vectors[some] - quantiser.decode(placed.nearest[some])).sum()
    error = left / np.square(vectors[some] - vectors[some].mean(axis=0)).sum()
    used = [len(np.unique(placed.nearest[:, level])) for level in range(3)]
    print(f"\n1,000,000 × 256 vectors, 3 × 256 codes: fit {fitting}; encode and unique codes {placing}")
    print(f"codes in use {used}; variance left {error:.3f}; moved {placed.moved:,}; shared {placed.shared:,}")


def peer() -> None:
    from sklearn.cluster import MiniBatchKMeans

    x = torch.from_numpy(made_vectors(100_000))
    print("\n| 100,000 × 256, 256 centres | seed | mean squared distance | time |\n|---|---|---|---|")
    for seed in range(3):
        with clocked() as time_ours:
            draw = torch.Generator().manual_seed(seed)
            centres = kmeans(x, centres=256, steps=30, batch=32_768, generator=draw)
        ours = float(nearest(x, centres)[1].mean())
        print(f"| ours, 30 batches of 32,768 | {seed} | {ours:.3f} | {time_ours} |", flush=True)
        with clocked() as time_theirs:
            model = MiniBatchKMeans(256, batch_size=32_768, random_state=seed).fit(x.numpy())
        theirs = float(nearest(x, torch.from_numpy(model.cluster_centers_))[1].mean())
        name = f"scikit-learn, {model.n_steps_} batches of 32,768"
        print(f"| {name} | {seed} | {theirs:.3f} | {time_theirs} |", flush=True)


def journey(folder: Path) -> None:
    dataset = Dataset(folder=folder)
    if not dataset.interactions.exists():
        load(Source(), folder)
    with clocked() as step, tempfile.TemporaryDirectory() as scratch:
        result = tokenize(folder, Path(scratch) / "tokenizer")
    print(f"\nThe tokenize step on The Complete Journey: {step}\n\n{card(result.report, result.verdict)}")

    items = pq.read_table(dataset.items)
    item_ids = items["item_id"].to_pylist()
    pages = page_items(training_histories(dataset, item_ids), len(item_ids))
    pairs = held_out_pairs(dataset, item_ids)
    text = encode_texts(text_encoder("wordllama"), items["text"].to_pylist())
    rare = pages.popularity()[pairs.one] < 30
    print("| item vectors | AUC | AUC, items in under 30 pages | time |\n|---|---|---|---|")
    svd = CollaborativeConfig()
    for name, config in (
        ("text alone", replace(svd, kind="none")),
        ("text and contrastive", replace(svd, kind="contrastive")),
        *((f"text and PPMI-SVD, weight {weight:g}", replace(svd, weight=weight)) for weight in (0.5, 1.0, 2.0)),
    ):
        with clocked() as learning:
            won = pairs.told_by(item_vectors(text, pages, config).vectors)
        print(f"| {name} | {won.mean():.3f} | {won[rare].mean():.3f} | {learning} |", flush=True)
    cold_items(text, pages, pairs)


def cold_items(text: np.ndarray, pages: PageItems, pairs: "Pairs") -> None:
    """A tenth of the items taken out of the training pages; pairs of one of them with two of the others."""
    cold = np.random.default_rng(0).random(pages.items) < 0.1
    met = ~cold[pages.item]
    page = np.unique(pages.page[met], return_inverse=True)[1]
    warm = PageItems(page=page, item=pages.item[met], items=pages.items)
    asked = cold[pairs.one] & ~cold[pairs.other] & ~cold[pairs.stranger]
    foretold = item_vectors(text, warm, CollaborativeConfig()).vectors
    zeros = foretold.copy()
    zeros[cold, text.shape[1] :] = 0.0
    print("\n| collaborative part of items never met | AUC |\n|---|---|")
    for name, vectors in (("foretold from text", foretold), ("zeros", zeros)):
        print(f"| {name} | {pairs.told_by(vectors)[asked].mean():.3f} |", flush=True)


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Two items of one held-out page, and a third drawn as often as it is in such pairs: int64 [200,000] each."""

    one: np.ndarray
    other: np.ndarray
    stranger: np.ndarray

    def told_by(self, vectors: np.ndarray) -> np.ndarray:
        """1 where `other` is nearer by cosine than `stranger`, 1/2 where they are equal: float [200,000]."""
        vectors = unit(vectors)
        near = np.einsum("nd,nd->n", vectors[self.one], vectors[self.other])
        far = np.einsum("nd,nd->n", vectors[self.one], vectors[self.stranger])
        return (near > far) + 0.5 * (near == far)


def held_out_pairs(dataset: Dataset, item_ids: list[str]) -> Pairs:
    later = read_histories(dataset, item_ids).select(split_of_events(dataset, item_ids) > 0)
    pages: PageItems = page_items(later, len(item_ids)).with_company()
    draw = np.random.default_rng(0)
    event = draw.integers(len(pages.page), size=200_000)
    first, length = (np.searchsorted(pages.page, pages.page[event], side) for side in ("left", "right"))
    length = length - first
    partner = first + (event - first + 1 + draw.integers(length - 1)) % length
    other = pages.item[partner]
    return Pairs(one=pages.item[event], other=other, stranger=draw.permutation(other))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["scale", "peer", "journey"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", type=Path, help="a dataset folder of The Complete Journey")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if "scale" in arguments.parts:
        scale()
    if "peer" in arguments.parts:
        peer()
    if "journey" in arguments.parts:
        with tempfile.TemporaryDirectory() as scratch:
            journey(arguments.data or Path(scratch))


if __name__ == "__main__":
    main()
