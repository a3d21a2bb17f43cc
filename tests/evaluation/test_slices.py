import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nextpage.evaluation.slices import by_attribute, by_history_length, by_item_training, by_user_training
from tests.evaluation.histories import histories


def test_every_request_is_in_exactly_one_history_length():
    prompts = histories(*[[(0, 0, 0)] * length for length in (0, 15, 16, 63, 64, 255, 256, 1023, 1024, 3000)])
    slices = by_history_length(prompts)
    assert sum(part.requests.astype(int) for part in slices).tolist() == [1] * 10
    assert [int(part.requests.sum()) for part in slices] == [2, 2, 2, 2, 2]


def test_cold_users_have_few_training_pages_or_none():
    training = histories([(page, 0, 0) for page in range(4)] + [(3, 0, 1)], [(page, 0, 0) for page in range(5)])
    cold, warm = by_user_training(np.array(["u0", "u1", "unknown", "u1"], dtype=object), training)
    assert cold.requests.tolist() == [True, False, True, False]
    assert warm.requests.tolist() == [False, True, False, True]


def test_the_head_is_the_fewest_items_with_four_fifths_of_training_and_the_tail_the_rest():
    head, tail, cold = by_item_training(2, np.array([50, 9, 30, 11, 0]))
    assert head.items.tolist() == [True, False, True, False, False]
    assert tail.items.tolist() == [False, True, False, True, True]
    assert cold.items.tolist() == [False, True, False, False, True]


def test_attributes_slice_by_value_with_the_unknown_apart_and_ids_are_no_slices(tmp_path):
    users = {"user_id": ["a", "b", "c"], "age": ["19-24", None, "65+"], "only": ["x", "x", "x"]}
    pq.write_table(pa.table(users), tmp_path / "users.parquet")
    slices = by_attribute(np.array(["c", "b", "c", "a"], dtype=object), tmp_path / "users.parquet")
    assert {(part.axis, part.value): part.requests.tolist() for part in slices} == {
        ("age", "19-24"): [False, False, False, True],
        ("age", "65+"): [True, False, True, False],
        ("age", "unknown"): [False, True, False, False],
    }
