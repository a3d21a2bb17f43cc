import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextpage.tokenizers.residual_kmeans import ResidualKMeans, ResidualKMeansConfig


def vectors(count: int = 600, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 12)).astype(np.float32)


SMALL = ResidualKMeansConfig(levels=3, codes=8, steps=8)


def test_encoding_takes_the_nearest_code_of_what_is_left():
    x = vectors(200)
    quantiser = ResidualKMeans(SMALL).fit(x)
    for row, codes in zip(x, quantiser.encode(x), strict=True):
        left = row.copy()
        for codebook, code in zip(quantiser.codebooks_, codes, strict=True):
            distance = np.square(left - codebook).sum(axis=1)
            assert distance[code] <= distance.min() + 1e-4
            left -= codebook[code]


def test_each_level_leaves_less():
    x = vectors()
    quantiser = ResidualKMeans(SMALL).fit(x)
    codes = quantiser.encode(x)
    left = [np.square(x - quantiser.decode(codes[:, :levels])).sum() for levels in range(4)]
    assert left == sorted(left, reverse=True)
    assert left[-1] < 0.6 * left[0]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), levels=st.integers(1, 3), codes=st.integers(2, 9))
def test_sums_of_well_apart_codes_are_encoded_to_themselves(seed, levels, codes):
    draw = np.random.default_rng(seed)
    scale = 100.0 ** -np.arange(levels)
    directions = np.eye(codes, 12)[None] * (1 + draw.random((levels, codes, 1)))
    quantiser = ResidualKMeans.of((directions * scale[:, None, None]).astype(np.float32))
    wanted = draw.integers(codes, size=(20, levels))
    np.testing.assert_array_equal(quantiser.encode(quantiser.decode(wanted)), wanted)


def test_the_same_seed_gives_the_same_codebooks_and_another_seed_others():
    x = vectors()
    config = ResidualKMeansConfig(codes=8, steps=8, batch=100)
    first, second = ResidualKMeans(config).fit(x), ResidualKMeans(config).fit(x)
    other = ResidualKMeans(ResidualKMeansConfig(codes=8, steps=8, batch=100, seed=1)).fit(x)
    np.testing.assert_array_equal(first.codebooks_, second.codebooks_)
    assert not np.array_equal(first.codebooks_, other.codebooks_)


def test_fitting_and_encoding_leave_the_vectors_as_they_were():
    x = vectors()
    before = x.copy()
    ResidualKMeans(SMALL).fit(x).encode(x)
    np.testing.assert_array_equal(x, before)


def test_equal_vectors_get_equal_codes():
    x = np.repeat(vectors(50), 3, axis=0)
    codes = ResidualKMeans(SMALL).fit(x).encode(x)
    np.testing.assert_array_equal(codes, np.repeat(codes[::3], 3, axis=0))


def test_vectors_that_are_not_finite_are_refused():
    x = vectors()
    x[3, 4] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        ResidualKMeans(SMALL).fit(x)


@pytest.mark.parametrize("setting", ["levels", "codes", "steps", "batch"])
def test_settings_below_one_are_named(setting):
    with pytest.raises(ValueError, match=f"{setting} is 0"):
        ResidualKMeansConfig(**{setting: 0})
