import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nextpage.decoding.filters import Filters, ItemFilter, prefix_rank


@settings(deadline=None)
@given(st.data())
def test_a_range_of_rows_has_an_allowed_item_iff_its_rank_rises(data: st.DataObject) -> None:
    allowed = torch.tensor([data.draw(st.lists(st.booleans(), min_size=6, max_size=6)) for _ in range(2)])
    rank = prefix_rank(allowed)
    for low in range(6):
        for high in range(low, 7):
            assert (rank[:, high] > rank[:, low]).tolist() == allowed[:, low:high].any(dim=1).tolist()


ROW = st.integers(0, 6)
ITEM_FILTER = st.builds(
    lambda allowed, rows, more: (
        (ItemFilter() if allowed is None else ItemFilter.of(np.array(allowed))).without(rows).without(more)
    ),
    st.none() | st.lists(st.booleans(), min_size=7, max_size=7),
    st.lists(ROW, max_size=9),
    st.lists(ROW, max_size=3),
)


@settings(deadline=None)
@given(
    st.none() | st.lists(st.booleans(), min_size=7, max_size=7), st.lists(ROW, max_size=9), st.lists(ROW, max_size=3)
)
def test_an_item_filter_holds_its_set_less_the_rows_it_goes_without(
    allowed: list[bool] | None, rows: list[int], more: list[int]
) -> None:
    shared = ItemFilter() if allowed is None else ItemFilter.of(np.array(allowed))
    own = shared.without(rows).without(more)
    expected = [(allowed is None or allowed[row]) and row not in {*rows, *more} for row in range(7)]
    assert own.holds(np.arange(7)).tolist() == expected
    assert own.holds(np.array([6, 0, 6])).tolist() == [expected[6], expected[0], expected[6]]
    assert shared.holds(np.arange(7)).tolist() == ([True] * 7 if allowed is None else allowed)


@settings(deadline=None)
@given(st.lists(ITEM_FILTER | st.none(), min_size=1, max_size=4))
def test_filters_of_a_batch_count_what_each_holds(filters: list[ItemFilter | None]) -> None:
    together = Filters.of(filters)
    held = torch.tensor(np.array([(own or ItemFilter()).holds(np.arange(7)) for own in filters]))
    if together is None:
        assert held.all()
        return
    rows = torch.arange(8, dtype=torch.int32).expand(len(filters), -1)
    assert torch.equal(together.before(rows), prefix_rank(held))
    assert torch.equal(together.allowed(7), held)


@settings(deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=4))
def test_filters_given_as_booleans_are_the_same(rows: list[list[bool]]) -> None:
    assert Filters.dense(torch.tensor(rows), len(rows)).allowed(7).tolist() == rows
    assert Filters.dense(torch.tensor(rows[:1]), 3).allowed(7).tolist() == rows[:1] * 3


def test_a_shared_set_is_not_copied() -> None:
    shared = ItemFilter.of(np.ones(7, dtype=bool))
    together = Filters.of([shared.without([row]) for row in range(3)])
    assert together is not None
    assert {rank.data_ptr() for rank in together.ranks if rank is not None} == {shared.rank.data_ptr()}
