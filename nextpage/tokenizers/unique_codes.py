"""The collision policy: one item, one semantic ID, as long as there is room.

All codes but the last name a *cell*; the last code is made unique inside it. Items take places in the order of their
popularity, so the items that matter most keep the codes nearest to their vectors:

1. an item takes the free last code nearest to what the earlier levels left over of its vector;
2. if its cell is full, the item moves to the cell with room whose second-to-last code is next nearest (the codes
   before that stay) and takes the nearest free last code there;
3. if all those cells are full, it keeps its nearest codes and shares them.

Places that are taken stay taken: new items are placed by the same rules around the old ones, which never move.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from nextpage.tokenizers.residual_kmeans import ResidualKMeans

CHUNK = 4096


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """Codes of N items, and what the policy had to do for them."""

    nearest: np.ndarray  # int32 [N, L], before the policy
    codes: np.ndarray  # int32 [N, L]
    moved: int  # items that changed their cell
    shared: int  # items that share all codes with one placed before them


def assign(
    quantiser: ResidualKMeans, vectors: np.ndarray, *, popularity: np.ndarray, taken: np.ndarray | None = None
) -> Assignment:
    """Place items with float32 vectors [N, D]; ties of popularity go by row. `taken` int [M, L] are codes in use.

    Cost: one pass over the items in Python, some 20 µs each.
    """
    nearest = quantiser.encode(vectors)
    codes = nearest.copy()
    last = quantiser.codebooks_[-1]
    room: dict[tuple[int, ...], np.ndarray] = defaultdict(lambda: np.ones(len(last), dtype=bool))
    for place in taken if taken is not None else ():
        room[tuple(place[:-1].tolist())][place[-1]] = False
    moved = shared = 0
    order = np.argsort(-np.asarray(popularity), kind="stable")
    for start in range(0, len(order), CHUNK):
        rows = order[start : start + CHUNK]
        distance = _distances(vectors[rows] - quantiser.decode(codes[rows, :-1]), last)
        for row, distance_K in zip(rows.tolist(), distance, strict=True):
            free = room[tuple(codes[row, :-1].tolist())]
            if not free.any():
                cell = _next_cell(quantiser, vectors[row], codes[row], room)
                if cell is None:
                    shared += 1
                    continue
                moved += 1
                codes[row, :-1] = cell
                free = room[cell]
                distance_K = _distances(vectors[row] - quantiser.decode(codes[row : row + 1, :-1]), last)[0]
            codes[row, -1] = np.where(free, distance_K, np.inf).argmin()
            free[codes[row, -1]] = False
    return Assignment(nearest=nearest, codes=codes, moved=moved, shared=shared)


def _next_cell(
    quantiser: ResidualKMeans, vector: np.ndarray, codes: np.ndarray, room: dict[tuple[int, ...], np.ndarray]
) -> tuple[int, ...] | None:
    """The nearest cell with room among those that differ in the second-to-last code only."""
    if len(codes) < 2:
        return None
    before = codes[None, :-2]
    distance = _distances(vector - quantiser.decode(before), quantiser.codebooks_[-2])[0]
    for code in distance.argsort(kind="stable").tolist():
        cell = (*before[0].tolist(), code)
        if room[cell].any():
            return cell
    return None


def _distances(residual: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """Squared distances [N, K], less the vectors' own norms, which change no order."""
    distances: np.ndarray = np.square(codebook).sum(axis=1) - 2.0 * residual @ codebook.T
    return distances
