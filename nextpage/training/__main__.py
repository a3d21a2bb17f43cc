"""The training process: `python -m nextpage.training`, or many of it under torchrun.

Reads the feature store's training set, the tokenizer's item table and a recipe; writes `decoder.json`,
`weights.safetensors` and `log.jsonl`, with checkpoints beside them while it runs.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow.parquet as pq
import torch
import torch.distributed as dist
from safetensors.torch import save_file

from nextpage.interactions.sequences import sequences_from_table
from nextpage.layouts.pages import PagesConfig
from nextpage.models.decoder import CausalDecoder, DecoderConfig
from nextpage.models.initialisation import mimetic
from nextpage.models.qwen2 import initialise_from_qwen2
from nextpage.objectives.next_token import NextToken
from nextpage.recipes import Recipe, parse_recipe
from nextpage.tokenizers.semantic_ids import SemanticIds
from nextpage.tokenizers.vocabulary import Vocabulary
from nextpage.training.batches import Batches
from nextpage.training.config import TrainingConfig
from nextpage.training.deepspeed_engine import join, leave
from nextpage.training.loop import train


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nextpage.training", description=__doc__)
    parser.add_argument("--histories", type=Path, required=True, help="training.parquet of the features step")
    parser.add_argument("--semantic-ids", type=Path, required=True, help="semantic_ids.parquet of the tokenizer")
    parser.add_argument("--recipe", type=Path, required=True, help="a resolved recipe, YAML")
    parser.add_argument("--output", type=Path, required=True, help="folder of the model")
    arguments = parser.parse_args()
    recipe = parse_recipe(arguments.recipe.read_text())
    semantic_ids = SemanticIds.read(arguments.semantic_ids)
    join()
    try:
        _train(arguments.histories, semantic_ids, recipe, arguments.output)
    finally:
        leave()


def _train(histories: Path, semantic_ids: SemanticIds, recipe: Recipe, output: Path) -> None:
    config = recipe.part("training", TrainingConfig)
    vocabulary = Vocabulary(semantic_ids.sizes)
    layout = recipe.part("layout", PagesConfig)
    batches = Batches(
        sequences=sequences_from_table(pq.read_table(histories), list(semantic_ids.item_ids)),
        item_tokens=vocabulary.tokens(semantic_ids.codes),
        layout=layout,
        batch_tokens=config.batch_tokens,
        seed=config.seed,
    )
    torch.manual_seed(config.seed)
    shape = replace(recipe.part("model", DecoderConfig), token_merger=layout.merged)
    model = make_decoder(shape, vocabulary, config)
    weights = train(NextToken(model), batches, config, output)
    if dist.get_rank() == 0:
        (output / "decoder.json").write_text(json.dumps(asdict(model.config), indent=1))
        save_file(weights, output / "weights.safetensors")


def make_decoder(shape: DecoderConfig, vocabulary: Vocabulary, config: TrainingConfig) -> CausalDecoder:
    """A fresh model for the vocabulary, which starts by copying, or from a checkpoint's layers."""
    ranges = tuple(vocabulary.level_range(level) for level in range(len(vocabulary.sizes)))
    decoder = CausalDecoder(replace(shape, vocabulary_size=vocabulary.size, level_ranges=ranges))
    mimetic(decoder, config.seed)
    if config.pretrained:
        initialise_from_qwen2(decoder, Path(config.pretrained))
    return decoder


if __name__ == "__main__":
    main()
