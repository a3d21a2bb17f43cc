"""Which recipe a run follows, to the last setting."""

from collections.abc import Iterable
from typing import Any

from components.release.step import EXPERIMENT, rule_of
from nextpage.recipes import Recipe, parse_recipe, read_recipe


def resolve(recipe: str, settings: Iterable[str]) -> Recipe:
    """A shipped recipe by name, or one as YAML text, with `section.key=value` overrides.

    Every section is read once, so that a misspelt setting stops the run before it starts.
    """
    chosen = parse_recipe(recipe) if "\n" in recipe else read_recipe(recipe)
    chosen = chosen.with_settings(settings)
    parts = _parts()
    unknown = set(chosen.sections) - {*parts, EXPERIMENT}
    if unknown:
        raise ValueError(f"recipe {chosen.name!r} has sections that no part reads: {', '.join(sorted(unknown))}")
    for section, kind in parts.items():
        chosen.part(section, kind)
    if EXPERIMENT in chosen.sections:
        rule_of(chosen, "checked")
    return chosen


def _parts() -> dict[str, type[Any]]:
    """The configuration that each section is read as."""
    from components.monitor.config import MonitorConfig
    from components.optimise.config import OptimiseConfig
    from components.validate.bounds import ValidationBounds
    from nextpage.alignment.config import AlignmentConfig
    from nextpage.alignment.reward_model import RewardModelConfig
    from nextpage.alignment.rewards import RewardsConfig
    from nextpage.decoding.repeat_prior import RepeatPriorConfig
    from nextpage.evaluation.config import EvaluationConfig
    from nextpage.interactions.slices import FeaturesConfig
    from nextpage.layouts.pages import PagesConfig
    from nextpage.models.decoder import DecoderConfig
    from nextpage.recommender import DecodingConfig
    from nextpage.tokenizers.item_tokenizer import TokenizerConfig
    from nextpage.tokenizers.quality import QualityBounds
    from nextpage.training.config import TrainingConfig

    return {
        "validation": ValidationBounds,
        "features": FeaturesConfig,
        "tokenizer": TokenizerConfig,
        "tokenizer_quality": QualityBounds,
        "layout": PagesConfig,
        "model": DecoderConfig,
        "training": TrainingConfig,
        "reward_model": RewardModelConfig,
        "rewards": RewardsConfig,
        "alignment": AlignmentConfig,
        "decoding": DecodingConfig,
        "repeat_prior": RepeatPriorConfig,
        "evaluation": EvaluationConfig,
        "optimise": OptimiseConfig,
        "monitoring": MonitorConfig,
    }
