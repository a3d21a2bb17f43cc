"""The tokenizing process: `python -m nextpage.tokenizers`, or many of it under torchrun.

Reads a clean dataset and a recipe; writes the tokenizer folder. The processes share the texts to encode and the
vectors to cluster.
"""

import argparse
import os
from pathlib import Path

import torch
import torch.distributed as dist

from nextpage.recipes import parse_recipe
from nextpage.tokenizers.item_tokenizer import TokenizerConfig
from nextpage.tokenizers.tokenize_dataset import tokenize_dataset


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nextpage.tokenizers", description=__doc__)
    parser.add_argument("--clean", type=Path, required=True, help="dataset folder that passed validation")
    parser.add_argument("--recipe", type=Path, required=True, help="a resolved recipe, YAML")
    parser.add_argument("--output", type=Path, required=True, help="folder of the tokenizer")
    arguments = parser.parse_args()
    config = parse_recipe(arguments.recipe.read_text()).part("tokenizer", TokenizerConfig)
    several = "RANK" in os.environ
    if several:
        on_gpu = config.quantiser.device.startswith("cuda")
        if on_gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        tokenize_dataset(arguments.clean, arguments.output, config)
    finally:
        if several:
            dist.destroy_process_group()


if __name__ == "__main__":
    main()
