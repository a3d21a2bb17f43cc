"""The repeat prior against a sum written out, and what it leaves alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextpage.decoding.filters import ItemFilter
from nextpage.decoding.repeat_prior import ORDERED, RepeatPriorConfig, mix_in_repeats, own_recency
from nextpage.interactions.sequences import Sequences

DAY, NOW = 86_400, 1_700_000_000
ITEMS, K = 12, 5

Event = tuple[int, int, int]
"""Item, behaviour, age in days."""


def histories(*users: list[Event]) -> Sequences:
    events = [event for user in users for event in sorted(user, key=lambda event: -event[2])]
    as_of = np.full(len(users), NOW)
    columns = np.array(events, dtype=np.int64).reshape(-1, 3)
    return Sequences(
        user_id=np.array([f"u{user}" for user in range(len(users))], dtype=object),
        as_of=as_of,
        target_from=as_of,
        offset=np.cumsum([0, *map(len, users)]),
        item=columns[:, 0].astype(np.int32),
        behaviour=columns[:, 1].astype(np.int8),
        page=columns[:, 2],
        time=NOW - columns[:, 2] * DAY,
    )


def generated(*probabilities: dict[int, float]) -> tuple[np.ndarray, np.ndarray]:
    """As a search returns them: best first, K a prompt."""
    rows, log_prob = np.full((len(probabilities), K), -1, dtype=np.int32), np.full((len(probabilities), K), -np.inf)
    for s, found in enumerate(probabilities):
        for place, (row, probability) in enumerate(sorted(found.items(), key=lambda pair: -pair[1])[:K]):
            rows[s, place], log_prob[s, place] = row, np.log(probability)
    return rows, log_prob


def mixed(model: dict[int, float], user: list[Event], config: RepeatPriorConfig) -> dict[int, float]:
    """The mixture of one user, written out."""
    own: dict[int, float] = {}
    for item, behaviour, age in user:
        if behaviour == ORDERED:
            own[item] = own.get(item, 0) + 2 ** (-age / config.half_life_days)
    total = {item: (1 - config.weight) * probability for item, probability in model.items()}
    for item, weight in own.items():
        total[item] = total.get(item, 0) + config.weight * weight / sum(own.values())
    return total


EVENTS = st.lists(st.tuples(st.integers(0, ITEMS - 1), st.integers(0, 2), st.integers(0, 400)), max_size=8)
MODEL = st.dictionaries(st.integers(0, ITEMS - 1), st.floats(0.001, 0.1), max_size=K)


@given(
    users=st.lists(st.tuples(EVENTS, MODEL), min_size=1, max_size=4),
    weight=st.floats(0.01, 0.99),
    half_life=st.floats(1, 300),
)
def test_the_best_of_the_mixture_are_returned_best_first(
    users: list[tuple[list[Event], dict[int, float]]], weight: float, half_life: float
) -> None:
    config = RepeatPriorConfig(weight=weight, half_life_days=half_life)
    rows, log_prob = generated(*(model for _, model in users))
    found_rows, found = mix_in_repeats(rows, log_prob, histories(*(events for events, _ in users)), config, None)
    for s, (events, model) in enumerate(users):
        total = mixed(model, events, config)
        count = min(K, len(total))
        assert np.exp(found[s, :count]) == pytest.approx(sorted(total.values(), reverse=True)[:count])
        assert np.exp(found[s, :count]) == pytest.approx([total[row] for row in found_rows[s, :count].tolist()])
        assert len(set(found_rows[s, :count].tolist())) == count
        assert (found_rows[s, count:] == -1).all()
        assert (found[s, count:] == -np.inf).all()


def test_weight_0_leaves_the_model_alone() -> None:
    rows, log_prob = generated({3: 0.4, 1: 0.2})
    config = RepeatPriorConfig(weight=0.0)
    found_rows, found = mix_in_repeats(rows, log_prob, histories([(7, ORDERED, 1)]), config, None)
    assert np.array_equal(found_rows, rows)
    assert np.array_equal(found, log_prob)


@pytest.mark.parametrize("user", [[], [(7, ORDERED - 1, 1), (8, 0, 2)]])
def test_a_user_without_orders_gets_the_models_order(user: list[Event]) -> None:
    rows, log_prob = generated({3: 0.4, 1: 0.2, 5: 0.1})
    found_rows, found = mix_in_repeats(rows, log_prob, histories(user), RepeatPriorConfig(weight=0.5), None)
    assert np.array_equal(found_rows, rows)
    assert np.exp(found[0, :3]) == pytest.approx([0.2, 0.1, 0.05])


def test_an_own_item_that_is_not_allowed_stays_out() -> None:
    rows, log_prob = generated({3: 0.4}, {3: 0.4})
    allowed = [ItemFilter().without([7]), None]
    user = [(7, ORDERED, 1), (8, ORDERED, 30)]
    found, _ = mix_in_repeats(rows, log_prob, histories(user, user), RepeatPriorConfig(weight=0.5), allowed)
    assert set(found[0].tolist()) == {3, 8, -1}
    assert set(found[1].tolist()) == {3, 7, 8, -1}


def test_a_filter_does_not_change_the_scores_of_what_it_leaves() -> None:
    rows, log_prob = generated({3: 0.4})
    user, config = histories([(7, ORDERED, 1), (8, ORDERED, 30)]), RepeatPriorConfig(weight=0.5)
    allowed = [ItemFilter.of(np.arange(ITEMS) != 7)]
    free, held = (
        dict(zip(*(column[0].tolist() for column in mix_in_repeats(rows, log_prob, user, config, only)), strict=True))
        for only in (None, allowed)
    )
    assert (held[3], held[8]) == pytest.approx((free[3], free[8]))


def test_what_was_ordered_lately_comes_before_what_was_ordered_long_ago() -> None:
    rows, log_prob = generated({})
    user = histories([(2, ORDERED, 300), (9, ORDERED, 3), (4, ORDERED, 90)])
    found, _ = mix_in_repeats(rows, log_prob, user, RepeatPriorConfig(half_life_days=60), None)
    assert found[0].tolist() == [9, 4, 2, -1, -1]


def test_after_a_half_life_an_order_counts_half() -> None:
    items, shares = own_recency(histories([(2, ORDERED, 60), (9, ORDERED, 0)]), 0, 60.0)
    assert dict(zip(items.tolist(), shares.tolist(), strict=True)) == pytest.approx({2: 1 / 3, 9: 2 / 3})


@given(users=st.lists(EVENTS, min_size=1, max_size=4), half_life=st.floats(0.01, 300))
def test_shares_are_of_own_orders_and_sum_to_1(users: list[list[Event]], half_life: float) -> None:
    history = histories(*users)
    for s, events in enumerate(users):
        items, shares = own_recency(history, s, half_life)
        ordered = {item for item, behaviour, _ in events if behaviour == ORDERED}
        assert set(items.tolist()) == ordered
        assert shares.sum() == pytest.approx(1.0 if ordered else 0.0)


@pytest.mark.parametrize("wrong", [{"weight": 1.0}, {"weight": -0.1}, {"half_life_days": 0.0}])
def test_a_setting_out_of_range_is_named(wrong: dict[str, float]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} is {value}: use"):
        RepeatPriorConfig(**wrong)
