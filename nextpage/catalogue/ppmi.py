"""Items as vectors of the company they keep: positive pointwise mutual information of pages, by singular values."""

import warnings

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nextpage.catalogue.pages import PageItems


def ppmi(pages: PageItems, *, smoothing: float = 0.75, pairs_at_least: int = 1) -> Tensor:
    """Sparse float32 [items, items]: max(0, log P(i, j) / (P(i) P_s(j))), symmetric up to the smoothing.

    n(i, j) counts the pages that hold both; P_s raises counts to `smoothing`, which keeps rare items from
    dominating (Levy, Goldberg and Dagan 2015, "Improving Distributional Similarity", section 3.2). Pairs seen less
    than `pairs_at_least` times are left out. Cost: the sum over pages of their squared lengths.
    """
    pages = pages.with_company()
    page_count = int(pages.page.max()) + 1 if len(pages.page) else 0
    page, item = torch.from_numpy(pages.page), torch.from_numpy(pages.item)
    ones = torch.ones(len(item))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse")
        holds = torch.sparse_coo_tensor(torch.stack([item, page]), ones, (pages.items, page_count), is_coalesced=False)
        together = torch.sparse.mm(holds.to_sparse_csr(), holds.t().to_sparse_csr()).to_sparse_coo().coalesce()
    (row, column), count = together.indices(), together.values()
    keep = (row != column) & (count >= pairs_at_least)
    row, column, count = row[keep], column[keep], count[keep].double()
    total = torch.zeros(pages.items, dtype=torch.float64).index_add_(0, row, count)
    smooth = total**smoothing
    information = torch.log(count * smooth.sum() / (total[row] * smooth[column]))
    positive = information > 0
    return torch.sparse_coo_tensor(
        torch.stack([row, column])[:, positive],
        information[positive].float(),
        (pages.items, pages.items),
        is_coalesced=True,
        check_invariants=False,
    )


def singular_vectors(matrix: Tensor, *, dimensions: int, seed: int, passes: int = 3) -> np.ndarray:
    """U √S of a truncated SVD of a sparse square matrix, float32 [items, dimensions]; rows without entries are zero.

    Randomised, with power iterations and eight spare directions (Halko, Martinsson and Tropp 2011, algorithm 4.4).
    `torch.svd_lowrank` is the same, ten times slower here: it multiplies by a transposed view of the matrix, where two
    compressed copies are fast. The sign of a singular vector is arbitrary, so its largest entry is made positive.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse")
        forth, back = matrix.to_sparse_csr(), matrix.t().coalesce().to_sparse_csr()
    generator = torch.Generator().manual_seed(seed)
    width = min(dimensions + 8, matrix.shape[0])
    basis_IW = torch.linalg.qr(forth @ torch.randn(matrix.shape[0], width, generator=generator)).Q
    for _ in range(passes):
        basis_IW = torch.linalg.qr(forth @ torch.linalg.qr(back @ basis_IW).Q).Q
    inner_WW, singular_W, _ = torch.linalg.svd((back @ basis_IW).T, full_matrices=False)
    left_ID = (basis_IW @ inner_WW)[:, :dimensions]
    largest_D = left_ID.gather(0, left_ID.abs().argmax(0, keepdim=True))
    vectors_ID = left_ID * torch.where(largest_D < 0, -1.0, 1.0) * singular_W[:dimensions].sqrt()
    connected_I = torch.bincount(matrix.indices()[0], minlength=matrix.shape[0]) > 0
    vectors_ID = torch.where(connected_I[:, None], vectors_ID, 0.0)
    return functional.pad(vectors_ID, (0, dimensions - vectors_ID.shape[1])).numpy()  # fewer items than dimensions
