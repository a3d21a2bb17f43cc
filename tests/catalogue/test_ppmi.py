import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nextpage.catalogue.pages import PageItems
from nextpage.catalogue.ppmi import ppmi, singular_vectors


def draw_pages(seed: int, *, items: int, pages: int) -> PageItems:
    holds = np.random.default_rng(seed).random((pages, items)) < 0.3
    page, item = holds.nonzero()
    return PageItems(page=np.unique(page, return_inverse=True)[1], item=item, items=items)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), smoothing=st.sampled_from([0.75, 1.0]), least=st.integers(1, 2))
def test_ppmi_is_its_definition(seed, smoothing, least):
    pages = draw_pages(seed, items=9, pages=12)
    holds = np.zeros((12, 9))
    holds[pages.page, pages.item] = 1
    together = holds.T @ holds
    np.fill_diagonal(together, 0)
    together[together < least] = 0
    smooth = together.sum(1) ** smoothing
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = np.log(together * smooth.sum() / np.outer(together.sum(1), smooth))
    wanted = np.where(together > 0, np.maximum(wanted, 0), 0)
    found = ppmi(pages, smoothing=smoothing, pairs_at_least=least).to_dense()
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_singular_vectors_span_what_an_exact_svd_spans():
    matrix = ppmi(draw_pages(0, items=60, pages=40))
    vectors = singular_vectors(matrix, dimensions=6, seed=0, passes=40)
    left, singular, _ = torch.linalg.svd(matrix.to_dense())
    exact = (left[:, :6] * singular[:6].sqrt()).numpy()
    np.testing.assert_allclose(vectors @ vectors.T, exact @ exact.T, atol=1e-3)


def test_singular_vectors_are_the_same_again_and_zero_for_items_without_company():
    pages = draw_pages(0, items=30, pages=40)
    pages = PageItems(page=pages.page, item=pages.item, items=35)
    first, second = (singular_vectors(ppmi(pages), dimensions=4, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not first[30:].any()
    assert first[:30].any(axis=1).all()


def test_a_log_without_company_gives_zeros():
    pages = PageItems(page=np.arange(3), item=np.arange(3), items=5)
    vectors = singular_vectors(ppmi(pages), dimensions=8, seed=0)
    assert vectors.shape == (5, 8)
    assert not vectors.any()
