"""The tokenize step as a KFP component."""

from kfp import dsl

from components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def tokenize(
    recipe: dsl.Input[dsl.Artifact],
    clean: dsl.Input[dsl.Dataset],
    tokenizer: dsl.Output[dsl.Model],
    card: dsl.Output[dsl.Markdown],
    verdict: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    checkpoints: str = "/tmp/nextpage-checkpoints",
    processes: int = 1,
    nodes: int = 1,
    accelerator: str = "",
    node_pool: str = "",
    queue: str = "",
    hours: int = 24,
) -> None:
    """Give every item its semantic ID; see components/tokenize/README.md.

    Args:
        recipe: The resolved recipe, for its sections `tokenizer` and `tokenizer_quality`.
        clean: The dataset folder that passed validation.
        tokenizer: The tokenizer folder.
        card: Codes by level, and what the collision policy did.
        verdict: Are the codes healthy? A gate.
        metrics: Coverage and perplexity by level, error, collisions, seconds and peak memory.
        checkpoints: A folder where several processes meet. For several nodes it lies on a claim that all of them mount.
        processes: Processes on each node, one a GPU; one process on one node is the step itself.
        nodes: Nodes; more than one are launched and followed as a TrainJob.
        accelerator: What a GPU is called in the cluster, such as nvidia.com/gpu. Empty: none.
        node_pool: A label of the pool's nodes, key=value. Empty: any node.
        queue: Kueue's LocalQueue of the TrainJob. Empty: the namespace's default.
        hours: After which a TrainJob is ended; a retry goes on.
    """
    from pathlib import Path

    from components.measure import measured
    from components.placement import Placement
    from components.tokenize import step
    from components.tokenize.card import card as card_of
    from nextpage.recipes import parse_recipe
    from nextpage.tokenizers.item_tokenizer import TokenizerConfig
    from nextpage.tokenizers.quality import QualityBounds

    placement = Placement(
        nodes=nodes, processes=processes, accelerator=accelerator, node_pool=node_pool, queue=queue, hours=hours
    )
    with measured() as cost:
        if nodes * processes > 1:
            result = step.tokenize_together(
                Path(clean.path),
                Path(tokenizer.path),
                Path(recipe.path),
                checkpoints=Path(checkpoints),
                placement=placement,
            )
        else:
            chosen = parse_recipe(Path(recipe.path).read_text())
            config, bounds = chosen.part("tokenizer", TokenizerConfig), chosen.part("tokenizer_quality", QualityBounds)
            result = step.tokenize(Path(clean.path), Path(tokenizer.path), config, bounds)
    result.verdict.write(Path(verdict.path))
    Path(card.path).write_text(card_of(result.report, result.verdict))
    for name, value in result.figures().items():
        metrics.log_metric(name, value)
    metrics.log_metric("seconds", cost.seconds)
    metrics.log_metric("peak_memory_mb", cost.peak_memory_mb)
