import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nextpage.tokenizers.semantic_ids import SemanticIds


def table() -> SemanticIds:
    draw = np.random.default_rng(0)
    return SemanticIds.sorted(
        np.asarray([f"i{row}" for row in draw.permutation(50)], dtype=object), draw.integers(4, size=(50, 3)), (4, 4, 4)
    )


def test_items_below_a_prefix_are_one_run_of_rows_and_ties_go_by_item():
    ids = table()
    keys = [(*codes, item) for codes, item in zip(ids.codes.tolist(), ids.item_ids.tolist(), strict=True)]
    assert keys == sorted(keys)


def test_a_table_survives_parquet(tmp_path):
    ids = table()
    ids.write(tmp_path / "ids.parquet")
    read = SemanticIds.read(tmp_path / "ids.parquet")
    assert read.item_ids.tolist() == ids.item_ids.tolist()
    np.testing.assert_array_equal(read.codes, ids.codes)
    assert read.sizes == ids.sizes


def test_parquet_of_another_kind_is_refused(tmp_path):
    pq.write_table(pa.table({"item_id": ["a"], "code_0": [1]}), tmp_path / "ids.parquet")
    with pytest.raises(ValueError, match="no codebook sizes"):
        SemanticIds.read(tmp_path / "ids.parquet")


@pytest.mark.parametrize("codes", [[[0, 4]], [[-1, 0]]])
def test_codes_outside_the_codebook_are_refused(codes):
    with pytest.raises(ValueError, match="leave the range"):
        SemanticIds(item_ids=np.asarray(["a"], dtype=object), codes=np.asarray(codes), sizes=(4, 4))


def test_codes_of_another_number_of_levels_are_refused():
    with pytest.raises(ValueError, match=r"expected \(1, 3\)"):
        SemanticIds(item_ids=np.asarray(["a"], dtype=object), codes=np.zeros((1, 2), np.int32), sizes=(4, 4, 4))
