import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextpage.tokenizers.vocabulary import PAD, SEP, Vocabulary


@given(st.data())
def test_tokens_and_codes_are_inverse(data):
    sizes = tuple(data.draw(st.lists(st.integers(1, 300), min_size=1, max_size=5)))
    codes = np.asarray([[data.draw(st.integers(0, size - 1)) for size in sizes] for _ in range(4)])
    vocabulary = Vocabulary(sizes)
    np.testing.assert_array_equal(vocabulary.codes(vocabulary.tokens(codes)), codes)


def test_levels_and_special_tokens_share_no_token_and_fill_the_vocabulary():
    vocabulary = Vocabulary((3, 5, 2))
    tokens = [PAD, SEP, *(token for level in range(3) for token in range(*vocabulary.level_range(level)))]
    assert tokens == list(range(vocabulary.size))


def test_a_token_of_another_level_is_named():
    vocabulary = Vocabulary((4, 4))
    with pytest.raises(ValueError, match=r"token 9 at \(1, 0\) is no code of level 0"):
        vocabulary.codes(np.asarray([[2, 6], [9, 6]]))
