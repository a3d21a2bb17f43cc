"""How good a tokenizer's codes are, and the gate that refuses bad ones."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from nextpage.gates import Verdict
from nextpage.tokenizers.kmeans import squared_distances
from nextpage.tokenizers.residual_kmeans import ResidualKMeans
from nextpage.tokenizers.unique_codes import Assignment

SAMPLE = 20_000
"""Vectors looked at for what takes a comparison of vectors with one another."""


@dataclass(frozen=True, kw_only=True)
class LevelQuality:
    """One level's codes over the catalogue."""

    size: int
    used: int
    attainable: int  # codes that the vectors can fill: no more than are distinct after the levels before
    entropy: float  # bits
    perplexity: float  # 2^entropy: the number of evenly used codes that say as much
    error: float  # ‖x − decoded up to this level‖² relative to ‖x − mean‖², with the codes assigned

    @property
    def coverage(self) -> float:
        """|{i : n_i > 0}| / K."""
        return self.used / self.size


@dataclass(frozen=True, kw_only=True)
class QualityReport:
    """Shares lie in [0, 1]. `neighbour` and `category` are None where there is nothing to measure them on."""

    items: int
    levels: tuple[LevelQuality, ...]
    colliding_before: float  # share of items whose nearest codes are another item's too
    colliding_after: float  # share of items whose assigned codes are another item's too
    recoded: float  # share of items whose codes the policy changed
    moved: int  # items that changed their cell
    neighbour: float | None  # share of an item's nearest items that share its first code
    neighbour_chance: float  # the same for random pairs
    category: float | None  # share of items whose category is the commonest under their first code
    category_chance: float | None  # share of the commonest category

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1))

    @staticmethod
    def read(path: Path) -> "QualityReport":
        raw = json.loads(path.read_text())
        return QualityReport(**raw | {"levels": tuple(LevelQuality(**level) for level in raw["levels"])})


@dataclass(frozen=True, kw_only=True)
class QualityBounds:
    """A codebook of random vectors covers under 30% of its codes, one of k-means over 90% (GenRec's warnings)."""

    coverage_at_least: float = 0.9  # of the attainable codes, at every level
    perplexity_at_least: float = 0.3  # of the attainable codes, at every level
    error_at_most: float = 0.7  # after the last level
    colliding_at_most: float = 0.001  # after the policy
    neighbour_lift_at_least: float = 3.0  # over chance


def measure_quality(
    quantiser: ResidualKMeans,
    vectors: np.ndarray,
    assignment: Assignment,
    *,
    category: np.ndarray | None = None,
    seed: int = 0,
) -> QualityReport:
    """Look at the codes of float32 [I, D] vectors. `category` (str objects [I]): any grouping that people know."""
    codes = assignment.codes
    draw = np.random.default_rng(seed)
    sample = np.sort(draw.permutation(len(vectors))[:SAMPLE])
    neighbour = _neighbour_share(vectors, codes[:, 0], quantiser.codebooks_.shape[1], draw)
    first_share = np.bincount(codes[:, 0]) / len(codes)
    return QualityReport(
        items=len(codes),
        levels=tuple(_level(quantiser, vectors, codes, sample, level) for level in range(codes.shape[1])),
        colliding_before=_colliding(assignment.nearest),
        colliding_after=_colliding(codes),
        recoded=float((assignment.nearest != codes).any(axis=1).mean()),
        moved=assignment.moved,
        neighbour=neighbour,
        neighbour_chance=float(np.square(first_share).sum()),
        category=None if category is None else _purity(codes[:, 0], category),
        category_chance=None if category is None else _purity(np.zeros(len(codes), np.int32), category),
    )


def quality_verdict(report: QualityReport, bounds: QualityBounds) -> Verdict:
    """Passed if every bound holds; the reasons say which does not, or what was looked at."""
    broken = []
    for level, quality in enumerate(report.levels):
        used, perplexity = quality.used / quality.attainable, quality.perplexity / quality.attainable
        if used < bounds.coverage_at_least:
            broken.append(
                f"level {level} uses {quality.used} codes of {quality.attainable} that its vectors can fill "
                f"({used:.1%}), the bound is {bounds.coverage_at_least:.1%}: did k-means run?"
            )
        if perplexity < bounds.perplexity_at_least:
            broken.append(
                f"level {level} has a perplexity of {quality.perplexity:.1f} over {quality.attainable} codes "
                f"({perplexity:.1%}), the bound is {bounds.perplexity_at_least:.1%}: a few codes hold most items"
            )
    if report.levels[-1].error > bounds.error_at_most:
        broken.append(
            f"the codes leave {report.levels[-1].error:.1%} of the vectors' variance unexplained, the bound is "
            f"{bounds.error_at_most:.1%}: add codes, levels or k-means steps"
        )
    if report.colliding_after > bounds.colliding_at_most:
        broken.append(
            f"{report.colliding_after:.2%} of the items share all codes with another, the bound is "
            f"{bounds.colliding_at_most:.2%}: the catalogue needs more codes or levels"
        )
    if report.neighbour is not None and report.neighbour < bounds.neighbour_lift_at_least * report.neighbour_chance:
        broken.append(
            f"{report.neighbour:.1%} of nearest items share the first code where chance gives "
            f"{report.neighbour_chance:.1%}, the bound is {bounds.neighbour_lift_at_least:g} times chance"
        )
    if broken:
        return Verdict(gate="tokenizer health", passed=False, reasons=tuple(broken))
    least = min(quality.used / quality.attainable for quality in report.levels)
    looked = (
        f"{report.items:,} items; every level uses {least:.1%} or more of its attainable codes",
        f"{report.levels[-1].error:.1%} of the vectors' variance is left after the last level",
        f"{report.colliding_after:.2%} of the items share all codes with another",
    )
    return Verdict(gate="tokenizer health", passed=True, reasons=looked)


def _level(
    quantiser: ResidualKMeans, vectors: np.ndarray, codes: np.ndarray, sample: np.ndarray, level: int
) -> LevelQuality:
    size = quantiser.codebooks_.shape[1]
    count = np.bincount(codes[:, level], minlength=size)
    share = count[count > 0] / count.sum()
    entropy = float((share * np.log2(1 / share)).sum())
    spread = float(np.square(vectors[sample] - vectors[sample].mean(axis=0)).sum())
    left = float(np.square(vectors[sample] - quantiser.decode(codes[sample, : level + 1])).sum())
    return LevelQuality(
        size=size,
        used=int((count > 0).sum()),
        attainable=min(size, _distinct(vectors[sample] - quantiser.decode(codes[sample, :level]))),
        entropy=entropy,
        perplexity=2.0**entropy,
        error=left / spread if spread > 0 else 0.0,
    )


def _distinct(vectors: np.ndarray) -> int:
    """Distinct rows, where a difference of a thousandth of a unit vector is none. Random directions tell rows apart."""
    directions = np.random.default_rng(0).normal(size=(vectors.shape[1], 3)).astype(np.float32)
    return len(np.unique(np.round(vectors @ directions, 3), axis=0))


def _colliding(codes: np.ndarray) -> float:
    _, which, count = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    return float((count[which.ravel()] > 1).mean())


def _neighbour_share(vectors: np.ndarray, first: np.ndarray, size: int, draw: np.random.Generator) -> float | None:
    """Over a thousand items: of their nearest, up to ten and fewer than a mean cell holds, how many share the cell."""
    nearest = min(10, len(vectors) // size - 1)
    if nearest < 1:
        return None
    rows = draw.permutation(len(vectors))[:1000]
    shared = 0
    for some in np.array_split(rows, max(1, len(rows) * len(vectors) // 10_000_000)):
        distance = squared_distances(torch.from_numpy(vectors[some]), torch.from_numpy(vectors))
        distance[torch.arange(len(some)), torch.from_numpy(some)] = torch.inf
        near = distance.topk(nearest, largest=False).indices.numpy()
        shared += int((first[near] == first[some][:, None]).sum())
    return shared / (len(rows) * nearest)


def _purity(cell: np.ndarray, category: np.ndarray) -> float:
    label = np.unique(np.asarray(category, dtype=str), return_inverse=True)[1]
    pair, count = np.unique(np.stack([cell, label]), axis=1, return_counts=True)
    commonest = np.zeros(int(cell.max()) + 1, dtype=np.int64)
    np.maximum.at(commonest, pair[0], count)
    return float(commonest.sum() / len(cell))
