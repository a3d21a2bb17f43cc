"""What a search must compute and move, by its shapes alone, and so the least time that a chip can need for it.

FLOPs are those of matrix products, 2 a multiply-add, as the eager engine does them; causal attention counts the pairs
that are seen. Bytes are those that no kernel can keep on the chip: each weight once a pass, the prompt's keys and
values once for all of its beams, a beam's own once. Activations are left out. So the least time of a pass is that of
the roofline (Williams et al. 2009, doi 10.1145/1498765.1498785), max(FLOPs / peak, bytes / bandwidth), and of a search
the sum over its passes.

Letters in names and comments: B prompts, T positions of a prompt and its SEP, W beams, D width, H heads, G key-value
heads, K width of a head, S codes of the level, L levels.
"""

from dataclasses import dataclass

from nextpage.models.decoder import DecoderConfig


@dataclass(frozen=True, kw_only=True)
class Chip:
    """Dense peak in FLOP/s at the dtype in question, and memory bandwidth in bytes/s."""

    flops: float
    bandwidth: float


BF16_CHIPS = {
    "H200": Chip(flops=989e12, bandwidth=4.8e12),
    "H100": Chip(flops=989e12, bandwidth=3.35e12),
    "A100": Chip(flops=312e12, bandwidth=2.04e12),
    "L40S": Chip(flops=362e12, bandwidth=0.864e12),
    "L4": Chip(flops=121e12, bandwidth=0.3e12),
}
"""By what is in the device's name: vendor's data sheets of the SXM boards, bf16 without sparsity."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one pass of the model."""

    flops: float
    bytes: float

    def seconds(self, chip: Chip) -> float:
        """The least time."""
        return max(self.flops / chip.flops, self.bytes / chip.bandwidth)


def prefill_cost(config: DecoderConfig, *, batch: int, positions: int, element: int = 2) -> Cost:
    """T `positions` in each of B prompts; `element` bytes a weight and cache entry. The last layer ends with SEP."""
    tokens, merged = batch * positions, len(config.level_ranges) if config.token_merger else 0
    merger = merged * config.width**2
    through = (config.layers - 1) * _layer_weights(config) + _projection_weights(config) + merger
    seen = (config.layers - 1) * batch * positions * (positions + 1) / 2 + tokens
    finished = _layer_weights(config) - _projection_weights(config)
    weights = _body_elements(config) + merger + (config.width if merger else 0)
    return Cost(
        flops=2.0 * (tokens * through + batch * (finished + _head(config, 0))) + _pair_flops(config) * seen,
        bytes=float(element * (weights + _head(config, 0) + tokens * _cache_elements(config))),
    )


def step_cost(config: DecoderConfig, *, batch: int, positions: int, beams: int, level: int, element: int = 2) -> Cost:
    """W beams of each of B prompts, each with `level` codes, the one that this step reads included."""
    tokens = batch * beams
    weights = config.layers * _layer_weights(config) + _head(config, level)
    cached = batch * positions + tokens * level
    return Cost(
        flops=2.0 * tokens * weights + _pair_flops(config) * config.layers * tokens * (positions + level),
        bytes=float(element * (_body_elements(config) + _head(config, level) + cached * _cache_elements(config))),
    )


def search_cost(config: DecoderConfig, *, batch: int, positions: int, beams: int, element: int = 2) -> tuple[Cost, ...]:
    """Of all passes: prefill, and a step for each level after the first."""
    return (
        prefill_cost(config, batch=batch, positions=positions, element=element),
        *(
            step_cost(config, batch=batch, positions=positions, beams=beams, level=level, element=element)
            for level in range(1, len(config.level_ranges))
        ),
    )


def least_seconds(passes: tuple[Cost, ...], chip: Chip) -> float:
    return sum(one.seconds(chip) for one in passes)


def roofline_share(passes: tuple[Cost, ...], chip: Chip, seconds: float) -> float:
    """The least time over a measured one: 1 is all that the chip has."""
    return least_seconds(passes, chip) / seconds


def _projection_weights(config: DecoderConfig) -> int:
    """Of queries, keys and values."""
    return config.width * config.head_width * (config.heads + 2 * config.kv_heads)


def _layer_weights(config: DecoderConfig) -> int:
    """All matrices of a layer."""
    output = config.width * config.heads * config.head_width
    return _projection_weights(config) + output + 3 * config.width * config.mlp_width


def _body_elements(config: DecoderConfig) -> int:
    """All parameters of all layers, and the last norm's: matrices, biases of queries, keys and values, norms."""
    vectors = config.head_width * (config.heads + 2 * config.kv_heads) + 2 * config.width
    return config.layers * (_layer_weights(config) + vectors) + config.width


def _head(config: DecoderConfig, level: int) -> int:
    """S · D"""
    start, stop = config.level_ranges[level]
    return (stop - start) * config.width


def _cache_elements(config: DecoderConfig) -> int:
    """Keys and values of one position."""
    return 2 * config.layers * config.kv_heads * config.head_width


def _pair_flops(config: DecoderConfig) -> float:
    """One query and one key in one layer: score and weighted value, in all heads."""
    return 4.0 * config.heads * config.head_width
