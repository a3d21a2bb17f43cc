"""From a demand to replicas, bytes and money.

A batch of n takes as long as `Machine.seconds` says: the roofline's least time over the share of it that is reached,
and what a batch and a request cost beside the model. How many requests a second that carries within a latency is
simulated (`batch_server.py`); replicas are as many as the busiest second takes, and spare ones.
"""

import math
from dataclasses import dataclass, replace
from functools import partial

from nextpage.capacity import memory
from nextpage.capacity.batch_server import BatchServer
from nextpage.layouts.pages import PagesConfig
from nextpage.models.cost import BF16_CHIPS, Chip, least_seconds, search_cost
from nextpage.models.decoder import DecoderConfig
from nextpage.recipes import Recipe
from nextpage.recommender import DecodingConfig
from nextpage.tokenizers.item_tokenizer import TokenizerConfig
from nextpage.tokenizers.vocabulary import Vocabulary

HOURS_A_MONTH = 730
STORE_BYTES_AN_EVENT = 64
"""Of Redis: 32 kB a user with 512 events (docs/scale.md)."""
STORE_FULL = 0.75
"""Of Redis's container: the chart keeps the rest for rewriting the append-only file."""
ROOM = 0.9
"""Of a device's memory: the rest is the runtime's and fragments."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What one replica runs on. `python benchmarks/capacity.py` prints the last three for the machine it runs on."""

    chip: Chip
    memory: int | None  # bytes of the device; None: a CPU, whose memory is what its pod is given
    share: float  # of the roofline that a search reaches
    batch_s: float  # that a batch takes beside it: launches, Python, waking threads
    request_s: float  # that each request of it takes: reading, prompts, trie, answering

    def seconds(self, workload: "Workload", batch: int) -> float:
        """What a batch of so many requests takes."""
        passes = search_cost(workload.config, batch=batch, positions=workload.positions, beams=workload.beam_width)
        return least_seconds(passes, self.chip) / self.share + self.batch_s + batch * self.request_s


def _gpu(name: str, gigabytes: int) -> Machine:
    """Assumed, not measured: a third of the roofline, and launches of an eager search from Python."""
    chip = BF16_CHIPS[name]
    return Machine(chip=chip, memory=gigabytes * 10**9, share=0.3, batch_s=0.010, request_s=0.0005)


MACHINES = {
    "cpu": Machine(chip=Chip(flops=250e9, bandwidth=20e9), memory=None, share=0.77, batch_s=0.021, request_s=0.0005),
    **{
        name: _gpu(name, gigabytes)
        for name, gigabytes in {"H200": 141, "H100": 80, "A100": 80, "L40S": 48, "L4": 24}.items()
    },
}
"""`cpu`: two cores, whose figures are held to measured throughput (docs/capacity.md)."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What one server holds and answers."""

    config: DecoderConfig
    sizes: tuple[int, ...]  # codebook size of each level
    items: int
    context: int = 128  # items of a history that the model reads
    beam_width: int = 64
    batch: int = 32  # requests that run together at most
    prompt_cache: int = 256 * 2**20  # bytes of prompts that are kept between requests, at most
    filter_sets: int = 32  # different sets of items (stock, region, category) that requests of a batch may ask for

    @property
    def positions(self) -> int:
        """Of a prompt and its SEP."""
        return self.context * (1 if self.config.token_merger else len(self.sizes)) + 1

    def bytes(self) -> dict[str, int]:
        """On the device, by what takes them, while a full batch runs."""
        prompts, suffixes = self.batch * self.positions, self.batch * self.beam_width * (len(self.sizes) - 1)
        return {
            "weights": memory.BF16 * memory.weights(self.config),
            "prompts' keys and values": memory.keys_and_values(self.config, prompts),
            "beams' keys and values": memory.keys_and_values(self.config, suffixes),
            "prompts kept": self.prompt_cache,
            "activations": memory.activations(self.config, prompts),
            "trie": memory.trie(memory.nodes_at_most(self.items, self.sizes), self.sizes),
            "filters": memory.filters(self.items, self.filter_sets),
        }


def workload_of(recipe: Recipe, *, items: int, context: int = 128) -> Workload:
    """What a release of this recipe holds and answers."""
    quantiser = recipe.part("tokenizer", TokenizerConfig).quantiser
    decoding, merged = recipe.part("decoding", DecodingConfig), recipe.part("layout", PagesConfig).merged
    vocabulary = Vocabulary((quantiser.codes,) * quantiser.levels)
    ranges = tuple(vocabulary.level_range(level) for level in range(quantiser.levels))
    shape = replace(recipe.part("model", DecoderConfig), token_merger=merged)
    return Workload(
        config=replace(shape, vocabulary_size=vocabulary.size, level_ranges=ranges),
        sizes=vocabulary.sizes,
        items=items,
        context=min(context, decoding.prompt_items),
        beam_width=decoding.beam_width,
    )


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What is asked of the service."""

    users: int
    requests: float  # a second, at the busiest
    p99_s: float  # from a request's coming into the server to its answer
    events: int = 512  # of a user that the feature store keeps
    spare: int = 1  # replicas more than the load takes: for a node that goes, and for a rolling update
    utilisation: float = 0.8  # at most, whatever the latency allows


@dataclass(frozen=True, kw_only=True)
class Plan:
    replicas: int
    rate: float  # requests a second that one replica carries within the latency
    most: float  # requests a second of one replica that always has a full batch
    alone_s: float  # a request that comes alone
    device_bytes: dict[str, int]
    host_bytes: dict[str, int]
    store_bytes: int  # of Redis's container

    def cost_a_month(self, price: float) -> float:
        """`price`: of one replica's machine, an hour."""
        return self.replicas * price * HOURS_A_MONTH

    def cost_a_million(self, price: float, requests: float) -> float:
        """Of a million requests, where `requests` a second come on average."""
        return self.replicas * price / (requests * 3600) * 1e6


def plan(demand: Demand, workload: Workload, machine: Machine) -> Plan:
    """Raises ValueError where a request alone misses the latency, or a replica does not fit into the device."""
    device = workload.bytes()
    if machine.memory is not None and sum(device.values()) > ROOM * machine.memory:
        largest = max(device, key=lambda name: device[name])
        raise ValueError(
            f"a replica takes {sum(device.values()) / 1e9:.1f} GB, the device has {machine.memory / 1e9:.0f}: "
            f"{largest} take most; have smaller batches, a shorter context or a larger device"
        )
    server = BatchServer(seconds=partial(machine.seconds, workload), most=workload.batch)
    rate = server.highest_rate(demand.p99_s, utilisation=demand.utilisation)
    return Plan(
        replicas=math.ceil(demand.requests / rate) + demand.spare,
        rate=rate,
        most=server.most_per_second,
        alone_s=server.wait_s + server.seconds(1),
        device_bytes=device,
        host_bytes=memory.host(workload.items, len(workload.sizes)),
        store_bytes=math.ceil(demand.users * demand.events * STORE_BYTES_AN_EVENT / STORE_FULL),
    )
