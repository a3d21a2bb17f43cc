import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nextpage.tokenizers.residual_kmeans import ResidualKMeans
from nextpage.tokenizers.unique_codes import assign


def quantiser(*, levels: int, codes: int, seed: int) -> ResidualKMeans:
    codebooks = np.random.default_rng(seed).normal(size=(levels, codes, 6))
    return ResidualKMeans.of((codebooks * 0.4 ** np.arange(levels)[:, None, None]).astype(np.float32))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    levels=st.integers(1, 4),
    codes=st.integers(2, 5),
    items=st.integers(1, 60),
    distinct=st.integers(1, 20),
)
def test_items_share_codes_only_where_no_cell_they_may_go_to_has_room(seed, levels, codes, items, distinct):
    draw = np.random.default_rng(seed)
    tokenizer = quantiser(levels=levels, codes=codes, seed=seed)
    vectors = draw.normal(size=(distinct, 6)).astype(np.float32)[draw.integers(distinct, size=items)]
    placed = assign(tokenizer, vectors, popularity=draw.integers(9, size=items))
    assert items - len(np.unique(placed.codes, axis=0)) == placed.shared
    np.testing.assert_array_equal(placed.codes[:, :-2], placed.nearest[:, :-2])
    per_branch = np.unique(placed.nearest[:, :-2], axis=0, return_counts=True)[1] if levels > 1 else np.array([items])
    room = codes ** min(levels, 2)
    assert placed.shared == np.maximum(per_branch - room, 0).sum()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), items=st.integers(1, 40))
def test_each_item_has_the_nearest_code_that_more_popular_ones_left(seed, items):
    draw = np.random.default_rng(seed)
    tokenizer = quantiser(levels=2, codes=8, seed=seed)
    vectors = draw.normal(size=(items, 6)).astype(np.float32)
    popularity = draw.permutation(items)
    placed = assign(tokenizer, vectors, popularity=popularity)
    for row in np.flatnonzero(placed.codes[:, 0] == placed.nearest[:, 0]):
        before = (popularity > popularity[row]) & (placed.codes[:, 0] == placed.codes[row, 0])
        left = vectors[row] - tokenizer.codebooks_[0, placed.codes[row, 0]]
        distance = np.square(left - tokenizer.codebooks_[1]).sum(axis=1)
        distance[placed.codes[before, 1]] = np.inf
        assert distance[placed.codes[row, 1]] <= distance.min() + 1e-4


def test_the_most_popular_of_equal_items_keeps_the_nearest_codes():
    vectors = np.ones((5, 6), dtype=np.float32)
    placed = assign(quantiser(levels=3, codes=8, seed=0), vectors, popularity=np.asarray([1, 2, 9, 3, 4]))
    np.testing.assert_array_equal(placed.codes[2], placed.nearest[2])
    assert (placed.codes[[0, 1, 3, 4]] != placed.nearest[[0, 1, 3, 4]]).any(axis=1).all()


def test_items_of_a_full_cell_move_to_the_next_nearest():
    tokenizer = quantiser(levels=3, codes=4, seed=1)
    placed = assign(tokenizer, np.ones((6, 6), dtype=np.float32), popularity=np.arange(6)[::-1])
    assert placed.moved == 2
    left = 1 - tokenizer.codebooks_[0, placed.nearest[0, 0]]
    second_nearest = np.square(left - tokenizer.codebooks_[1]).sum(axis=1).argsort()[1]
    np.testing.assert_array_equal(placed.codes[4:, 1], [second_nearest] * 2)


def test_new_items_take_no_place_that_is_taken():
    draw = np.random.default_rng(0)
    tokenizer = quantiser(levels=3, codes=6, seed=0)
    old, new = draw.normal(size=(40, 6)).astype(np.float32), draw.normal(size=(40, 6)).astype(np.float32)
    known = assign(tokenizer, old, popularity=np.zeros(40)).codes
    before = known.copy()
    placed = assign(tokenizer, np.concatenate([new, old]), popularity=np.zeros(80), taken=known)
    assert placed.shared == 0
    assert len(np.unique(np.concatenate([known, placed.codes]), axis=0)) == 120
    np.testing.assert_array_equal(known, before)
