"""The tokenizer of a release: how an item's text, and the company it keeps, become its semantic ID."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from nextpage.catalogue.collaborative import CollaborativeConfig, foretold_vectors, item_vectors
from nextpage.catalogue.pages import PageItems
from nextpage.catalogue.text import encode_texts, text_encoder
from nextpage.tokenizers.residual_kmeans import ResidualKMeans, ResidualKMeansConfig
from nextpage.tokenizers.semantic_ids import SemanticIds
from nextpage.tokenizers.shards import Shard, processes, share
from nextpage.tokenizers.unique_codes import Assignment, assign


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """`encoder`: see nextpage/catalogue/text.py."""

    encoder: str = "wordllama"
    collaborative: CollaborativeConfig = field(default_factory=CollaborativeConfig)
    quantiser: ResidualKMeansConfig = field(default_factory=ResidualKMeansConfig)


@dataclass(frozen=True, kw_only=True)
class ItemTokenizer:
    """What new items need: the encoder's name, the projection to the collaborative part, and the codebooks."""

    encoder: str
    weight: float
    projection: np.ndarray  # float32 [D + 1, C]
    quantiser: ResidualKMeans

    def assign_new(self, known: SemanticIds, item_ids: list[str], texts: list[str]) -> SemanticIds:
        """`known` and the new items in one table; no code of `known` changes. Earlier new items get the nearer codes.

        The rows of known items shift, as the table stays sorted: it belongs to a new release.
        """
        repeated = set(item_ids) & set(known.item_ids.tolist())
        if repeated or len(set(item_ids)) < len(item_ids):
            example = next(iter(repeated), None) or next(item for item in item_ids if item_ids.count(item) > 1)
            raise ValueError(f"item {example!r} has codes already or comes twice: pass only items that are new")
        vectors = foretold_vectors(encode_texts(text_encoder(self.encoder), texts), self.projection, self.weight)
        placed = assign(self.quantiser, vectors, popularity=np.zeros(len(item_ids)), taken=known.codes)
        return SemanticIds.sorted(
            np.concatenate([known.item_ids, np.asarray(item_ids, dtype=object)]),
            np.concatenate([known.codes, placed.codes]),
            known.sizes,
        )

    def save(self, folder: Path) -> None:
        """`vectors.safetensors` and `tokenizer.json`."""
        save_file(
            {"codebooks": self.quantiser.codebooks_, "projection": np.ascontiguousarray(self.projection)},
            folder / "vectors.safetensors",
        )
        (folder / "tokenizer.json").write_text(json.dumps({"encoder": self.encoder, "weight": self.weight}, indent=1))

    @staticmethod
    def load(folder: Path) -> "ItemTokenizer":
        """From a folder that `save` wrote."""
        arrays = load_file(folder / "vectors.safetensors")
        settings = json.loads((folder / "tokenizer.json").read_text())
        return ItemTokenizer(
            encoder=settings["encoder"],
            weight=settings["weight"],
            projection=arrays["projection"],
            quantiser=ResidualKMeans.of(arrays["codebooks"]),
        )


@dataclass(frozen=True, kw_only=True)
class Tokenized:
    """A catalogue with its codes, in the catalogue's order."""

    tokenizer: ItemTokenizer
    vectors: np.ndarray  # float32 [I, D + C]
    assignment: Assignment


def tokenize_catalogue(texts: list[str], pages: PageItems, config: TokenizerConfig) -> Tokenized:
    """Learn a tokenizer from the items' texts [I] and the training period's pages, and give every item its codes.

    Under torch.distributed all processes are called alike and return alike: each encodes its share of the texts and
    clusters its share of the vectors; the rest, which is little, each does for itself.
    """
    text = _encode_shared(texts, config)
    learnt = item_vectors(text, pages, config.collaborative)
    quantiser = ResidualKMeans(config.quantiser).fit(learnt.vectors[share(len(texts))])
    return Tokenized(
        tokenizer=ItemTokenizer(
            encoder=config.encoder, weight=learnt.weight, projection=learnt.projection, quantiser=quantiser
        ),
        vectors=learnt.vectors,
        assignment=assign(quantiser, learnt.vectors, popularity=pages.popularity()),
    )


def _encode_shared(texts: list[str], config: TokenizerConfig) -> np.ndarray:
    """Unit vectors float32 [I, D] of all texts, in every process; each encodes its share."""
    device = config.quantiser.device
    own = encode_texts(text_encoder(config.encoder, device=device), texts[share(len(texts))])
    if processes() == 1:
        return own
    shard = Shard.of(torch.from_numpy(own).to(device))
    return shard.gather(torch.arange(shard.rows)).cpu().numpy()
