"""The place step as a KFP component. Its outputs are values, because selectors and tolerations of a pod are."""

from typing import NamedTuple

from kfp import dsl

from components.images import CONTROL


@dsl.component(base_image=CONTROL, install_kfp_package=False)
def place(
    card: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
    accelerator: str = "",
    node_pool: str = "",
    nodes: int = 1,
    processes: int = 1,
) -> NamedTuple(  # type: ignore[valid-type]
    "Place", [("accelerator", str), ("accelerators", str), ("node_selector", dict), ("tolerations", list)]
):
    """Where the pods of the steps that learn run; see components/place/README.md.

    Args:
        card: Where the work is done, and what the step's own pod asks for.
        metrics: Nodes and processes.
        accelerator: What a GPU is called in the cluster, such as nvidia.com/gpu. Empty: none.
        node_pool: A label of the pool's nodes, key=value. Empty: any node.
        nodes: Nodes; with more than one the pod only launches and follows, and asks for none of the pool's.
        processes: Processes on each node, one a GPU.

    Returns:
        The resource and how many of it, the node selector and the tolerations of the pod.
    """
    from pathlib import Path

    from components.placement import Placement

    asked = Placement(nodes=nodes, processes=processes, accelerator=accelerator, node_pool=node_pool)
    Path(card.path).write_text(f"# Machines\n\n{asked.sentence}\n")
    metrics.log_metric("nodes", float(nodes))
    metrics.log_metric("processes", float(nodes * processes))
    pod = asked.own_pod
    return (pod.accelerator, str(pod.processes), pod.node_selector, pod.tolerations)
