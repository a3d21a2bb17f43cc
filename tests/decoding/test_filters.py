import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nextpage.decoding.filters import excluding, intersection, prefix_rank


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-1, 6), min_size=3, max_size=3), min_size=1, max_size=4))
def test_excluding_drops_exactly_the_listed_items_and_ignores_padding(rows: list[list[int]]) -> None:
    allowed = excluding(torch.tensor(rows), 7)
    assert allowed.tolist() == [[item not in listed for item in range(7)] for listed in rows]


@settings(deadline=None)
@given(st.data())
def test_a_range_of_rows_has_an_allowed_item_iff_its_rank_rises(data: st.DataObject) -> None:
    allowed = torch.tensor([data.draw(st.lists(st.booleans(), min_size=6, max_size=6)) for _ in range(2)])
    rank = prefix_rank(allowed)
    for low in range(6):
        for high in range(low, 7):
            assert (rank[:, high] > rank[:, low]).tolist() == allowed[:, low:high].any(dim=1).tolist()


def test_intersection_joins_filters_of_all_and_of_single_prompts() -> None:
    stock = torch.tensor([True, True, False, True])
    seen = excluding(torch.tensor([[0], [3]]), 4)
    assert intersection(stock, None, seen).tolist() == [[False, True, False, True], [True, True, False, False]]


def test_no_filter_at_all_stays_none() -> None:
    assert intersection(None, None) is None
