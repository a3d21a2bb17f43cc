"""The tokenize step as a KFP component."""

from kfp import dsl

from components.images import BASE_IMAGE


@dsl.component(base_image=BASE_IMAGE, install_kfp_package=False)
def tokenize(
    recipe: dsl.Input[dsl.Artifact],
    clean: dsl.Input[dsl.Dataset],
    tokenizer: dsl.Output[dsl.Model],
    card: dsl.Output[dsl.Markdown],
    verdict: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Give every item its semantic ID; see components/tokenize/README.md.

    Args:
        recipe: The resolved recipe, for its sections `tokenizer` and `tokenizer_quality`.
        clean: The dataset folder that passed validation.
        tokenizer: The tokenizer folder.
        card: Codes by level, and what the collision policy did.
        verdict: Are the codes healthy? A gate.
        metrics: Coverage and perplexity by level, error, collisions, seconds and peak memory.
    """
    from pathlib import Path

    from components.measure import measured
    from components.tokenize.card import card as card_of
    from components.tokenize.step import tokenize as learn
    from nextpage.recipes import parse_recipe
    from nextpage.tokenizers.item_tokenizer import TokenizerConfig
    from nextpage.tokenizers.quality import QualityBounds

    chosen = parse_recipe(Path(recipe.path).read_text())
    config, bounds = chosen.part("tokenizer", TokenizerConfig), chosen.part("tokenizer_quality", QualityBounds)
    with measured() as cost:
        result = learn(Path(clean.path), Path(tokenizer.path), config, bounds)
    result.verdict.write(Path(verdict.path))
    Path(card.path).write_text(card_of(result.report, result.verdict))
    for name, value in result.figures().items():
        metrics.log_metric(name, value)
    metrics.log_metric("seconds", cost.seconds)
    metrics.log_metric("peak_memory_mb", cost.peak_memory_mb)
