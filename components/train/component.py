"""The train step as a KFP component."""

from kfp import dsl

from components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def train(
    recipe: dsl.Input[dsl.Artifact],
    features: dsl.Input[dsl.Dataset],
    tokenizer: dsl.Input[dsl.Model],
    clean: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    candidate: dsl.Output[dsl.Model],
    card: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
    checkpoints: str = "/tmp/nextpage-checkpoints",
    processes: int = 1,
    nodes: int = 1,
    accelerator: str = "",
    node_pool: str = "",
    queue: str = "",
    hours: int = 24,
) -> None:
    """Train the model and assemble the candidate release; see components/train/README.md.

    Args:
        recipe: The resolved recipe.
        features: The features folder, for training.parquet.
        tokenizer: The tokenizer folder.
        clean: The dataset folder that passed validation.
        model: Weights, shape and the training log.
        candidate: A sealed release without figures.
        card: The course of the loss.
        metrics: Loss, tokens/s, MFU, seconds and peak memory.
        checkpoints: A folder that outlives the step, so that a retry goes on where it was killed. For several nodes it
            lies on a claim that all of them mount.
        processes: Processes on each node, one a GPU.
        nodes: Nodes; more than one are launched and followed as a TrainJob.
        accelerator: What a GPU is called in the cluster, such as nvidia.com/gpu. Empty: none.
        node_pool: A label of the pool's nodes, key=value. Empty: any node.
        queue: Kueue's LocalQueue of the TrainJob. Empty: the namespace's default.
        hours: After which a TrainJob is ended; a retry goes on.
    """
    from pathlib import Path

    from components.measure import measured
    from components.placement import Placement
    from components.train import step

    inputs = {"features": Path(features.path), "tokenizer": Path(tokenizer.path), "recipe": Path(recipe.path)}
    placement = Placement(
        nodes=nodes, processes=processes, accelerator=accelerator, node_pool=node_pool, queue=queue, hours=hours
    )
    with measured() as cost:
        last = step.train(**inputs, model=Path(model.path), checkpoints=Path(checkpoints), placement=placement)
        manifest = step.make_candidate(
            **inputs, clean=Path(clean.path), model=Path(model.path), candidate=Path(candidate.path)
        )
    Path(card.path).write_text(step.card(Path(model.path), manifest))
    for name in ("loss", "tokens_per_second", "mfu"):
        metrics.log_metric(name, last[name])
    metrics.log_metric("seconds", cost.seconds)
    metrics.log_metric("peak_memory_mb", cost.peak_memory_mb)
