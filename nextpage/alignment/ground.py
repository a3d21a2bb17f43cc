"""What alignment stands on: a base release, the features and the dataset that it was made from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from nextpage.alignment.config import AlignmentConfig
from nextpage.alignment.generation import Generation
from nextpage.alignment.standing import HeldOut
from nextpage.decoding.repeat_prior import RepeatPriorConfig
from nextpage.decoding.trie import Trie
from nextpage.evaluation.config import EvaluationConfig
from nextpage.evaluation.trial import model_prompts, read_trial
from nextpage.interactions.log import Dataset
from nextpage.interactions.sequences import Sequences, sequences_from_table
from nextpage.layouts.pages import PagesConfig
from nextpage.models.decoder import CausalDecoder
from nextpage.recipes import Recipe, read_recipe
from nextpage.recommender import DecodingConfig, read_decoder
from nextpage.tokenizers.semantic_ids import SemanticIds
from nextpage.tokenizers.vocabulary import Vocabulary
from nextpage.training.deepspeed_engine import own_device


@dataclass(frozen=True, kw_only=True)
class Ground:
    """`slices` are those that the base was trained on."""

    release: Path
    features: Path
    dataset: Dataset
    recipe: Recipe
    semantic_ids: SemanticIds
    trie: Trie
    item_tokens: np.ndarray  # int64 [I, L]
    slices: Sequences

    @property
    def config(self) -> AlignmentConfig:
        return self.recipe.part("alignment", AlignmentConfig)

    def base(self) -> CausalDecoder:
        """The base's model anew, in fp32, where this process trains."""
        return read_decoder(self.release).to(own_device())

    def generation(self, model: CausalDecoder, prompt_items: int) -> Generation:
        layout = self.recipe.part("layout", PagesConfig)
        return Generation(
            model=model, trie=self.trie, item_tokens=self.item_tokens, layout=layout, prompt_items=prompt_items
        )

    def as_released(self, weights: Mapping[str, torch.Tensor]) -> Generation:
        """The base with these weights, asked as a release asks its model."""
        model, decoding = self.base(), self.recipe.part("decoding", DecodingConfig)
        model.load_state_dict(weights)
        dtype = torch.bfloat16 if decoding.bf16 else torch.float32
        return self.generation(model.to(dtype).eval(), decoding.prompt_items)

    def held_out(self, requests: int) -> HeldOut:
        """A fixed sample of the gate's split."""
        evaluation, item_ids = self.recipe.part("evaluation", EvaluationConfig), self.semantic_ids.item_ids.tolist()
        trial = read_trial(
            self.dataset,
            item_ids,
            split=self.config.gate.split,
            limit=requests,
            relevant=evaluation.relevant,
            recent_days=evaluation.baselines.recent_days,
        )
        return HeldOut(
            trial=trial,
            prompts=model_prompts(self.features / "evaluation.parquet", trial, item_ids),
            prior=self.recipe.part("repeat_prior", RepeatPriorConfig),
            generated_beams=evaluation.generated_beams,
            generated_requests=evaluation.generated_requests,
        )


def read_ground(release: Path, features: Path, dataset: Path) -> Ground:
    """The recipe is the release's own."""
    semantic_ids = SemanticIds.read(release / "semantic_ids.parquet")
    return Ground(
        release=release,
        features=features,
        dataset=Dataset(folder=dataset),
        recipe=read_recipe(release / "recipe.yaml"),
        semantic_ids=semantic_ids,
        trie=Trie.build(semantic_ids).to(own_device()),
        item_tokens=Vocabulary(semantic_ids.sizes).tokens(semantic_ids.codes),
        slices=sequences_from_table(pq.read_table(features / "training.parquet"), list(semantic_ids.item_ids)),
    )
