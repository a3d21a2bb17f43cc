"""The tokenize step as a KFP component."""

from kfp import dsl

from components.images import BASE_IMAGE


@dsl.component(base_image=BASE_IMAGE, install_kfp_package=False)
def tokenize(
    clean: dsl.Input[dsl.Dataset],
    tokenizer: dsl.Output[dsl.Model],
    card: dsl.Output[dsl.Markdown],
    verdict: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    encoder: str = "wordllama",
    collaborative: str = "svd",
    collaborative_weight: float = 1.0,
    levels: int = 3,
    codes: int = 256,
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Give every item its semantic ID; see components/tokenize/README.md."""
    from pathlib import Path

    from components.measure import measured
    from components.tokenize.card import card as card_of
    from components.tokenize.step import tokenize as learn
    from nextpage.catalogue.collaborative import CollaborativeConfig
    from nextpage.tokenizers.item_tokenizer import TokenizerConfig
    from nextpage.tokenizers.residual_kmeans import ResidualKMeansConfig

    config = TokenizerConfig(
        encoder=encoder,
        collaborative=CollaborativeConfig(kind=collaborative, weight=collaborative_weight, seed=seed),
        quantiser=ResidualKMeansConfig(levels=levels, codes=codes, seed=seed, device=device),
    )
    with measured() as cost:
        result = learn(Path(clean.path), Path(tokenizer.path), config)
    result.verdict.write(Path(verdict.path))
    Path(card.path).write_text(card_of(result.report, result.verdict))
    for name, value in result.figures().items():
        metrics.log_metric(name, value)
    metrics.log_metric("seconds", cost.seconds)
    metrics.log_metric("peak_memory_mb", cost.peak_memory_mb)
