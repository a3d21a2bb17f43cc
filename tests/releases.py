"""A small sealed release with random weights and a tokenizer that can name new items."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from nextpage.recipes import Recipe
from nextpage.recommender import write_parts
from nextpage.release import FeatureService, seal
from nextpage.tokenizers.item_tokenizer import ItemTokenizer
from nextpage.tokenizers.residual_kmeans import ResidualKMeans
from nextpage.tokenizers.semantic_ids import SemanticIds
from tests.decoding.small import decoder

ITEMS, SIZES, TEXT_WIDTH = 60, (6, 6, 6), 256


def semantic_ids() -> SemanticIds:
    names = np.array([f"i{row:03d}" for row in range(ITEMS)], dtype=object)
    return SemanticIds.sorted(names, np.random.default_rng(0).integers(0, 6, (ITEMS, 3)), SIZES)


def items() -> pa.Table:
    item_ids = semantic_ids().item_ids.tolist()
    return pa.table(
        {
            "item_id": item_ids,
            "text": [f"text of {item_id}" for item_id in item_ids],
            "category": [f"c{row % 2}" for row in range(ITEMS)],
            "orders": np.random.default_rng(1).integers(0, 1000, ITEMS),
        }
    )


def write_release(folder: Path, *, prior: float = 0.5) -> str:
    """Its hash."""
    recipe = Recipe(name="test", sections={"decoding": {"bf16": False}, "repeat_prior": {"weight": prior}})
    write_parts(folder, decoder=decoder(SIZES), semantic_ids=semantic_ids(), items=items(), recipe=recipe)
    draw = np.random.default_rng(2)
    tokenizer = ItemTokenizer(
        encoder="wordllama",
        weight=1.0,
        projection=draw.standard_normal((TEXT_WIDTH + 1, 4)).astype(np.float32),
        quantiser=ResidualKMeans.of(draw.standard_normal((3, 6, TEXT_WIDTH + 4)).astype(np.float32)),
    )
    (folder / "tokenizer").mkdir()
    tokenizer.save(folder / "tokenizer")
    return seal(
        folder, name="r1", recipe="test", feature_service=FeatureService(name="recommender_r1", hash="f00d")
    ).hash
