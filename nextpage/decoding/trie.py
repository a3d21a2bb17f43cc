"""A trie over the semantic IDs of a catalogue that stores no children.

Nodes are numbered level by level in the order of the sorted table. So the k-th edge that leaves level l leads to node
k of level l + 1, and an edge needs only its code; a node needs only its first edge. Each item has an edge of its own
at the last level, also where two items share all codes: a node of the last level *is* an item row, and the items below
any node are one contiguous run of rows. A trie of three levels of 8192 codes takes at most 8 bytes an item.

Letters in names and comments: I items, L levels; level 0 holds the root, level L the items.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from nextpage.tokenizers.semantic_ids import SemanticIds


@dataclass(frozen=True, kw_only=True, eq=False)
class Trie:
    """The edges of L levels; `edge_codes[l]` and `first_edges[l]` belong to the edges that leave level l."""

    sizes: tuple[int, ...]  # codebook size of each level
    edge_codes: tuple[Tensor, ...]  # int16 (int32 above 32768 codes) [nodes of level l + 1]
    first_edges: tuple[Tensor, ...]  # int32 [nodes of level l, + 1]: node n has edges [n] up to [n + 1]

    @staticmethod
    def build(semantic_ids: SemanticIds) -> "Trie":
        """O(I · L), vectorised, some 20 bytes an item beside the table; it is never copied whole.

        Raises ValueError where the table is empty or not in lexical order of its codes.
        """
        codes = semantic_ids.codes
        if not len(codes):
            raise ValueError("the table of semantic IDs has no items: a trie needs at least one")
        edge_codes, first_edges = [], []
        fresh = np.zeros(len(codes), dtype=bool)  # rows that differ from the row before in the codes so far
        fresh[0] = True
        for level, size in enumerate(semantic_ids.sizes):
            step = np.diff(codes[:, level])
            _check_order(step < 0, fresh[1:], level, semantic_ids)
            last = level == len(semantic_ids.sizes) - 1
            child = np.ones_like(fresh) if last else fresh.copy()  # rows at which a node of the next level begins
            child[1:] |= step != 0
            starts = np.flatnonzero(child)
            first_edge = np.append(np.flatnonzero(fresh[starts]), len(starts))
            first_edges.append(torch.from_numpy(first_edge.astype(np.int32)))
            dtype = np.int16 if size <= 1 << 15 else np.int32
            edge_codes.append(torch.from_numpy(codes[starts, level].astype(dtype)))
            fresh = child
        return Trie(sizes=semantic_ids.sizes, edge_codes=tuple(edge_codes), first_edges=tuple(first_edges))

    @property
    def levels(self) -> int:
        """L"""
        return len(self.sizes)

    @property
    def items(self) -> int:
        """I"""
        return len(self.edge_codes[-1])

    @property
    def nbytes(self) -> int:
        """Memory of all arrays, in bytes."""
        return sum(array.nbytes for array in (*self.edge_codes, *self.first_edges))

    def first_row(self, level: int, node: Tensor) -> Tensor:
        """First item row at or after a node, int [...] → int32 [...]; a node's items end where the next one's begin."""
        for first_edge in self.first_edges[level:]:
            node = first_edge[node]
        return node

    def path(self, rows: Tensor) -> list[Tensor]:
        """The nodes from the root to items: L + 1 tensors int [...], for rows [...]."""
        nodes = [rows]
        for first_edge in reversed(self.first_edges):
            nodes.append(torch.searchsorted(first_edge, nodes[-1].to(torch.int32), right=True) - 1)
        return nodes[::-1]

    def codes(self, rows: Tensor) -> Tensor:
        """Codes int64 [..., L] of item rows [...]."""
        nodes = self.path(rows)[1:]
        codes = [codes[node].long() for codes, node in zip(self.edge_codes, nodes, strict=True)]
        return torch.stack(codes, dim=-1)

    def rows(self, codes: Tensor) -> Tensor:
        """First item row int32 [...] of codes [..., L]; -1 where they name no item. Bisects the edges of each node."""
        node = torch.zeros(codes.shape[:-1], dtype=torch.int32, device=codes.device)
        found = torch.ones_like(node, dtype=torch.bool)
        for level, edge_codes in enumerate(self.edge_codes):
            low, end = self.first_edges[level][node], self.first_edges[level][node + 1]
            high, code = end, codes[..., level]
            for _ in range(int((end - low).max()).bit_length()):
                middle = (low + high) // 2
                below = (middle < high) & (edge_codes[middle.clamp(max=len(edge_codes) - 1)] < code)
                low, high = torch.where(below, middle + 1, low), torch.where(below, high, middle)
            node = low.clamp(max=len(edge_codes) - 1)
            found &= (low < end) & (edge_codes[node] == code)
            node = torch.where(found, node, 0)
        return torch.where(found, node, -1)

    def to(self, device: torch.device | str) -> "Trie":
        """The same trie on a device."""
        return Trie(
            sizes=self.sizes,
            edge_codes=tuple(array.to(device) for array in self.edge_codes),
            first_edges=tuple(array.to(device) for array in self.first_edges),
        )

    def save(self, path: Path) -> None:
        """As safetensors: `sizes`, and `edge_codes.l` and `first_edges.l` of each level."""
        arrays = {"sizes": torch.tensor(self.sizes)}
        for level in range(self.levels):
            arrays[f"edge_codes.{level}"] = self.edge_codes[level].contiguous()
            arrays[f"first_edges.{level}"] = self.first_edges[level].contiguous()
        safetensors.torch.save_file(arrays, path)

    @staticmethod
    def load(path: Path) -> "Trie":
        arrays = safetensors.torch.load_file(path)
        if "sizes" not in arrays:
            raise ValueError(f"{path} holds no codebook sizes: was it written by Trie.save?")
        sizes = tuple(int(size) for size in arrays["sizes"])
        return Trie(
            sizes=sizes,
            edge_codes=tuple(arrays[f"edge_codes.{level}"] for level in range(len(sizes))),
            first_edges=tuple(arrays[f"first_edges.{level}"] for level in range(len(sizes))),
        )


def _check_order(falls: np.ndarray, fresh: np.ndarray, level: int, semantic_ids: SemanticIds) -> None:
    """A code may fall from one row to the next only where an earlier code has risen."""
    wrong = np.flatnonzero(falls & ~fresh)
    if len(wrong):
        row = int(wrong[0]) + 1
        raise ValueError(
            f"row {row}, item {semantic_ids.item_ids[row]!r}, has a smaller code of level {level} than the row before: "
            "bring the table into order with SemanticIds.sorted"
        )
