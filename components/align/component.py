"""The align step as a KFP component."""

from kfp import dsl

from components.images import TRAIN


@dsl.component(base_image=TRAIN, install_kfp_package=False)
def align(
    base: dsl.Input[dsl.Model],
    features: dsl.Input[dsl.Dataset],
    clean: dsl.Input[dsl.Dataset],
    candidate: dsl.Output[dsl.Model],
    outcome: dsl.Output[dsl.Artifact],
    verdict: dsl.Output[dsl.Artifact],
    card: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    checkpoints: str = "/tmp/nextpage-checkpoints",
    processes: int = 1,
    nodes: int = 1,
    accelerator: str = "",
    node_pool: str = "",
    queue: str = "",
    hours: int = 24,
) -> None:
    """Align the base and hand on the better of the two; see components/align/README.md.

    Args:
        base: The sealed candidate of train; its recipe says how it is aligned.
        features: The features folder, for training.parquet and evaluation.parquet.
        clean: The dataset folder that passed validation.
        candidate: A sealed release with the aligned weights where the gate passed, with the base's where not.
        outcome: alignment.json, which the candidate holds too.
        verdict: The gate's; not passed, the base goes on and so does the run.
        card: The verdict, reward, recall and made-up codes over the steps, and all figures before and after.
        metrics: Main figures before and after, the reward model's AUC, seconds and peak memory.
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

    from components.align import step
    from components.align.card import write_card
    from components.measure import measured
    from components.placement import Placement

    placement = Placement(
        nodes=nodes, processes=processes, accelerator=accelerator, node_pool=node_pool, queue=queue, hours=hours
    )
    with measured() as cost:
        found = step.align(
            base=Path(base.path),
            features=Path(features.path),
            clean=Path(clean.path),
            candidate=Path(candidate.path),
            checkpoints=Path(checkpoints),
            placement=placement,
        )
        Path(outcome.path).write_text(step.as_json(found))
        write_card(Path(card.path), found)
    judged = step.verdict(found)
    judged.write(Path(verdict.path))
    candidate.metadata["aligned"] = judged.passed
    for name, value in step.figures(found).items():
        metrics.log_metric(name, value)
    metrics.log_metric("seconds", cost.seconds)
    metrics.log_metric("peak_memory_mb", cost.peak_memory_mb)
