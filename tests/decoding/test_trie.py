from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nextpage.decoding.trie import Trie
from nextpage.tokenizers.semantic_ids import SemanticIds
from tests.decoding.small import catalogues, semantic_ids


def children(trie: Trie, level: int, node: int) -> list[tuple[int, int]]:
    """(code, node of the next level) of every edge of a node."""
    first, end = trie.first_edges[level][node : node + 2].tolist()
    return [(int(trie.edge_codes[level][edge]), edge) for edge in range(first, end)]


def walk(trie: Trie, level: int = 0, node: int = 0, codes: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    """The codes of all items, in the order in which a depth-first walk meets them."""
    if level == trie.levels:
        return [codes]
    return [
        item for code, child in children(trie, level, node) for item in walk(trie, level + 1, child, (*codes, code))
    ]


@settings(deadline=None)
@given(catalogues())
def test_a_walk_meets_every_item_in_the_order_of_the_table(table: SemanticIds) -> None:
    assert walk(Trie.build(table)) == [tuple(codes) for codes in table.codes.tolist()]


@settings(deadline=None)
@given(catalogues())
def test_a_node_is_one_prefix_and_its_items_are_the_rows_that_begin_with_it(table: SemanticIds) -> None:
    trie = Trie.build(table)
    paths = trie.path(torch.arange(len(table.codes)))
    for level in range(trie.levels):
        prefixes = [tuple(prefix) for prefix in table.codes[:, :level].tolist()]
        for prefix in set(prefixes):
            rows = [row for row, other in enumerate(prefixes) if other == prefix]
            nodes = {int(paths[level][row]) for row in rows}
            assert len(nodes) == 1
            node = torch.tensor(nodes.pop())
            assert rows == list(range(int(trie.first_row(level, node)), int(trie.first_row(level, node + 1))))
    assert paths[-1].tolist() == list(range(trie.items))


@settings(deadline=None)
@given(catalogues(), st.data())
def test_rows_finds_the_first_item_of_any_codes_and_codes_goes_back(table: SemanticIds, data: st.DataObject) -> None:
    trie = Trie.build(table)
    rows = torch.arange(trie.items)
    assert torch.equal(trie.codes(rows), torch.from_numpy(table.codes).long())
    everything = np.stack(np.meshgrid(*map(np.arange, table.sizes), indexing="ij"), -1).reshape(-1, trie.levels)
    first = {tuple(codes): row for row, codes in reversed(list(enumerate(table.codes.tolist())))}
    expected = [first.get(tuple(codes), -1) for codes in everything.tolist()]
    assert trie.rows(torch.from_numpy(everything)).tolist() == expected


@settings(deadline=None)
@given(catalogues())
def test_save_and_load_give_the_same_trie(tmp_path_factory: pytest.TempPathFactory, table: SemanticIds) -> None:
    path = Path(tmp_path_factory.mktemp("trie")) / "trie.safetensors"
    trie = Trie.build(table)
    trie.save(path)
    loaded = Trie.load(path)
    assert loaded.sizes == trie.sizes
    for saved, read in zip(
        (*trie.edge_codes, *trie.first_edges), (*loaded.edge_codes, *loaded.first_edges), strict=True
    ):
        assert saved.dtype == read.dtype
        assert torch.equal(saved, read)


def test_three_levels_of_8192_codes_take_at_most_10_bytes_an_item() -> None:
    codes = np.random.default_rng(0).integers(0, 8192, size=(300_000, 3), dtype=np.int32)
    order = np.lexsort(codes.T[::-1])
    names = np.arange(len(codes)).astype(object)
    trie = Trie.build(SemanticIds(item_ids=names, codes=codes[order], sizes=(8192, 8192, 8192)))
    assert trie.nbytes <= 10 * trie.items
    rows = torch.randint(trie.items, (1000,))
    assert torch.equal(trie.codes(rows), torch.from_numpy(codes[order]).long()[rows])


def test_codes_above_the_range_of_16_bits_survive() -> None:
    trie = Trie.build(semantic_ids([(70_000, 0), (40_000, 1), (32_768, 1)], (70_001, 2)))
    assert walk(trie) == [(32_768, 1), (40_000, 1), (70_000, 0)]


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([(1, 0), (0, 1)], r"row 1, item 'b', has a smaller code of level 0"),
        ([(0, 1), (0, 0)], r"row 1, item 'b', has a smaller code of level 1"),
        ([], "no items"),
    ],
)
def test_a_table_that_is_no_sorted_catalogue_is_refused(codes: list[tuple[int, int]], message: str) -> None:
    names = np.asarray(["a", "b"][: len(codes)], dtype=object)
    table = SemanticIds(item_ids=names, codes=np.asarray(codes, dtype=np.int32).reshape(-1, 2), sizes=(2, 2))
    with pytest.raises(ValueError, match=message):
        Trie.build(table)
