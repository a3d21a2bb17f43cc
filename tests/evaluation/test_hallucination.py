import numpy as np
import pytest

from nextpage.evaluation.hallucination import hallucination_rate
from nextpage.tokenizers.semantic_ids import SemanticIds

TABLE = SemanticIds.sorted(
    np.array(["a", "b", "c"], dtype=object), np.array([[0, 1, 0], [1, 1, 1], [1, 1, 1]]), sizes=(2, 2, 2)
)


def test_the_share_counts_every_tuple_that_names_no_item():
    generated = np.array([[[0, 1, 0], [1, 1, 1]], [[0, 0, 0], [1, 1, 0]]])
    assert hallucination_rate(generated, TABLE) == 0.5


def test_a_code_outside_its_codebook_names_no_item_even_where_its_number_would_meet_one():
    outside = np.array([[[0, 0, 2], [0, 2, -2], [1, 1, 1]]])  # 0·4 + 0·2 + 2 is the number of (0, 1, 0)
    assert hallucination_rate(outside, TABLE) == pytest.approx(2 / 3)


def test_nothing_generated_has_no_rate():
    assert np.isnan(hallucination_rate(np.empty((0, 5, 3), dtype=np.int64), TABLE))


def test_tuples_of_another_length_are_refused():
    with pytest.raises(ValueError, match="another tokenizer"):
        hallucination_rate(np.zeros((1, 1, 4), dtype=np.int64), TABLE)
