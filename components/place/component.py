"""The place step as a KFP component. Its outputs are values, because selectors and tolerations of a pod are."""

from typing import NamedTuple

from kfp import dsl

from components.images import BASE_IMAGE


@dsl.component(base_image=BASE_IMAGE, install_kfp_package=False)
def place(
    accelerator: str = "",
    node_pool: str = "",
    nodes: int = 1,
    processes: int = 1,
) -> NamedTuple(  # type: ignore[valid-type]
    "Place", [("accelerator", str), ("accelerators", str), ("node_selector", dict), ("tolerations", list)]
):
    """Where the pod of a training step runs; see components/place/README.md.

    Args:
        accelerator: What a GPU is called in the cluster, such as nvidia.com/gpu. Empty: none.
        node_pool: A label of the pool's nodes, key=value. Empty: any node.
        nodes: Nodes; with more than one the pod only launches and follows, and asks for none of the pool's.
        processes: Processes on each node, one a GPU.

    Returns:
        The resource and how many of it, the node selector and the tolerations of the pod.
    """
    from components.placement import Placement

    placement = Placement(nodes=nodes, processes=processes, accelerator=accelerator, node_pool=node_pool).own_pod
    return (placement.accelerator, str(placement.processes), placement.node_selector, placement.tolerations)
