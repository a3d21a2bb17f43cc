"""Which machines a step's processes run on, in words that a run form can ask for."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Placement:
    """One node is the step's own pod; more are those of a TrainJob.

    `queue` and `hours` are a TrainJob's. Raises ValueError for what no cluster can give.
    """

    nodes: int = 1
    processes: int = 1  # on each node, one a GPU
    accelerator: str = ""  # what a GPU is called in the cluster, such as nvidia.com/gpu; empty: none
    node_pool: str = ""  # a label of the pool's nodes, key=value, and its taint where it has one; empty: any node
    queue: str = ""  # Kueue's LocalQueue; empty: the namespace's default, where Kueue has one
    hours: int = 24  # after which a try is ended

    def __post_init__(self) -> None:
        for name in ("nodes", "processes", "hours"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: at least 1")
        key, equals, value = self.node_pool.partition("=")
        if self.node_pool and not (key and equals and value):
            raise ValueError(
                f"node_pool is {self.node_pool!r}: a label of its nodes as key=value, for example pool=gpu-train or "
                "cloud.google.com/gke-nodepool=a100 (kubectl get nodes --show-labels)"
            )
        if self.accelerator and "/" not in self.accelerator:
            raise ValueError(
                f"accelerator is {self.accelerator!r}: the resource's whole name, for example nvidia.com/gpu; which "
                "model it is, node_pool says"
            )

    @property
    def sentence(self) -> str:
        where = f"on nodes of {self.node_pool}" if self.node_pool else "on any node"
        each = f"{self.processes} × {self.accelerator}" if self.accelerator else f"{self.processes} processes on CPUs"
        if self.nodes == 1:
            return f"Steps that learn run in their own pods, {where}: {each}."
        return f"Steps that learn launch a TrainJob of {self.nodes} nodes, {where}, each with {each}."

    @property
    def own_pod(self) -> "Placement":
        """Of the step's pod: where other nodes do the work, any node will do for it."""
        return self if self.nodes == 1 else Placement()

    @property
    def node_selector(self) -> dict[str, str]:
        key, _, value = self.node_pool.partition("=")
        return {key: value} if key else {}

    @property
    def tolerations(self) -> list[dict[str, str]]:
        """Of the taints that clusters put on GPU nodes, and of the pool's own."""
        found = [
            {"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"}
            for key, value in self.node_selector.items()
        ]
        if self.accelerator:
            found.append({"key": self.accelerator, "operator": "Exists", "effect": "NoSchedule"})
        return found
