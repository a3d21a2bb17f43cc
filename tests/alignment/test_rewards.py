"""What items earn, by hand and by property."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextpage.alignment.catalogue import Catalogue
from nextpage.alignment.rewards import (
    DAY,
    EXPOSED,
    TERMS,
    Judge,
    RewardsConfig,
    diversity,
    freshness,
    relevance,
    rewards,
    value,
)
from nextpage.interactions.sequences import Sequences
from nextpage.recipes import parse_recipe
from tests.alignment.small import ITEMS, judge, pages
from tests.evaluation.histories import histories

PRICE = RewardsConfig(terms={"value": 1.0}, gate=None)
NOTHING: tuple[np.ndarray, ...] = (np.array([], dtype=np.int64),)


def _judge(vectors: list[tuple[float, float]] = [(1.0, 0.0)], **columns: list[float]) -> Judge:  # noqa: B006
    """Items with these vectors; those of `columns` where given."""
    items = max(len(vectors), *(len(column) for column in columns.values()), 1) if columns else len(vectors)
    catalogue = Catalogue(
        vectors=np.resize(np.array(vectors, dtype=np.float32), (items, 2)),
        category=np.array(columns.get("category", [0] * items), dtype=np.int64),
        price=np.array(columns.get("price", [0.5] * items), dtype=np.float32),
        first_seen=np.array(columns.get("first_seen", [0] * items), dtype=np.int64),
    )
    return Judge(catalogue=catalogue, reward_model=None)  # type: ignore[arg-type]


def _angle(*degrees: float) -> list[tuple[float, float]]:
    return [(float(np.cos(np.radians(of))), float(np.sin(np.radians(of)))) for of in degrees]


def _one(*items: int) -> np.ndarray:
    """A group of one prompt."""
    return np.array([items])


def test_relevance_is_the_mean_cosine_to_the_five_nearest_chosen_events() -> None:
    by = _judge(_angle(0, 60, 90, 180, 45))
    history = histories([(0, 1, 1), (0, 1, 1), (1, 2, 2), (1, 2, 3), (2, 3, 0), (2, 3, 3)])
    # Item 0 has the cosines .5, .5, 0, −1, 1, −1 to the events: the five nearest sum to 1.
    assert relevance(history, _one(0), by) == pytest.approx(1 / 5, abs=1e-6)
    few = histories([(0, 1, 1), (0, 1, 2)])
    assert relevance(few, _one(0, 1), by)[0] == pytest.approx([0.25, (1 + np.cos(np.radians(30))) / 2], abs=1e-6)


def test_relevance_looks_at_the_own_history_and_not_at_what_was_only_shown() -> None:
    by = _judge(_angle(0, 60, 90))
    two = histories([(0, 1, 0), (0, 1, 1)], [(0, 1, 2)], [])
    shown = replace(two, behaviour=np.array([2, EXPOSED, 1], dtype=np.int8))
    items = np.array([[0, 1], [0, 1], [0, 1]])
    expected = np.array([[1.0, 0.5], [0.0, np.cos(np.radians(30))], [0.0, 0.0]])
    assert relevance(shown, items, by) == pytest.approx(expected, abs=1e-6)


def test_diversity_is_the_share_of_the_groups_others_of_another_category() -> None:
    by = _judge(category=[0, 0, 1, 2])
    assert diversity(histories([]), _one(0, 1, 2, 3), by)[0] == pytest.approx([2 / 3, 2 / 3, 1, 1])
    assert diversity(histories([]), _one(3, 3, 3), by)[0].tolist() == [0, 0, 0]
    assert diversity(histories([]), _one(2), by)[0].tolist() == [0]


def test_value_is_the_percentile_of_the_price() -> None:
    by = _judge(price=[0.25, 0.5, 1.0])
    assert value(histories([]), _one(2, 0, 2), by)[0].tolist() == [1.0, 0.25, 1.0]


def test_freshness_halves_every_thirty_days_of_an_items_age() -> None:
    by = _judge(first_seen=[100 * DAY, 70 * DAY, 40 * DAY, 120 * DAY])
    assert freshness(histories([], as_of_day=100), _one(0, 1, 2, 3), by)[0] == pytest.approx([1, 0.5, 0.25, 1])


def test_preference_is_what_the_reward_model_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def score(model: object, prompts: Sequences, items: np.ndarray) -> np.ndarray:
        asked.append(model)
        return (items / 10 + np.arange(len(prompts))[:, None]).astype(np.float32)

    monkeypatch.setattr("nextpage.alignment.rewards.score", score)
    by = _judge(price=[0.0] * 10)
    earned = rewards(histories([], []), np.array([[1, 2], [3, 9]]), NOTHING * 2, by, RewardsConfig(gate=None))
    assert earned == pytest.approx(np.array([[0.1, 0.2], [1.3, 1.9]]))
    assert asked == [by.reward_model]


def test_terms_are_weighed_and_summed() -> None:
    by = _judge(price=[0.25, 0.5, 1.0], category=[0, 0, 1])
    config = RewardsConfig(terms={"value": 2.0, "diversity": 0.5}, gate=None)
    earned = rewards(histories([]), _one(0, 1, 2), NOTHING, by, config)
    assert earned[0] == pytest.approx([0.5 + 0.25, 1.0 + 0.25, 2.0 + 0.5])
    assert earned.dtype == np.float32


def test_the_gate_leaves_nothing_to_what_is_not_above_it() -> None:
    by = _judge([(1.0, 0.0), (0.5, 0.75**0.5), (0.0, 1.0), *_angle(59.9)], price=[0.3, 0.9, 1.0, 0.7])
    prompt = histories([(0, 1, 0)])  # relevance is 1, ½, 0 and a little more than ½
    earned = rewards(prompt, _one(0, 1, 2, 3), NOTHING, by, replace(PRICE, gate=0.5))
    assert earned[0] == pytest.approx([0.3, 0, 0, 0.7])
    assert rewards(prompt, _one(0, 1, 2, 3), NOTHING, by, PRICE)[0] == pytest.approx([0.3, 0.9, 1.0, 0.7])


def test_what_was_really_chosen_gets_the_groups_highest_reward_also_past_the_gate() -> None:
    by = _judge(_angle(0, 10, 90), price=[0.2, 0.6, 1.0])
    gated, prompt, chosen = replace(PRICE, gate=0.5), histories([(0, 1, 0)]), (np.array([2]),)
    assert rewards(prompt, _one(0, 1, 2), chosen, by, gated)[0] == pytest.approx([0.2, 0.6, 0.6])
    assert rewards(prompt, _one(0, 1, 2), chosen, by, replace(gated, anchored=False))[0] == pytest.approx([0.2, 0.6, 0])


@given(st.data())
def test_anchoring_lifts_the_positives_of_each_group_and_moves_nothing_else(data: st.DataObject) -> None:
    row, by = st.integers(-1, ITEMS - 1), judge()
    items = np.array(data.draw(st.lists(st.lists(row, min_size=5, max_size=5), min_size=1, max_size=4)))
    positives = [np.unique([i for i in own if i >= 0 and data.draw(st.booleans())]).astype(int) for own in items]
    prompts = pages().asked(np.arange(len(items))).prompts
    config = RewardsConfig(terms={"value": 0.7, "freshness": 0.1}, gate=0.1)
    before = rewards(prompts, items, positives, by, replace(config, anchored=False))
    after = rewards(prompts, items, positives, by, config)
    chosen = np.array([[item in own for item in group] for group, own in zip(items, positives, strict=True)])
    highest = np.broadcast_to(before.max(axis=1, keepdims=True), items.shape)
    assert np.array_equal(after[chosen], highest[chosen])
    assert np.array_equal(after[~chosen], before[~chosen])
    assert np.array_equal(after.max(axis=1), before.max(axis=1))


@given(st.lists(st.integers(-1, ITEMS - 1), min_size=1, max_size=8), st.booleans())
def test_codes_that_name_no_item_earn_nothing_and_are_never_lifted(items: list[int], gated: bool) -> None:
    prompts, group = pages().asked(np.arange(1)).prompts, np.array([items])
    config = RewardsConfig(terms={"value": 1.0, "diversity": 1.0, "freshness": 1.0}, gate=0.0 if gated else None)
    earned = rewards(prompts, group, [np.unique([0, *(item for item in items if item >= 0)])], judge(), config)
    assert (earned[group < 0] == 0).all()


@given(st.lists(st.integers(-1, ITEMS - 1), min_size=1, max_size=8), st.sampled_from([None, 0.1]))
def test_codes_that_name_no_item_change_nothing_of_what_the_others_earn(items: list[int], gate: float | None) -> None:
    prompts, real = pages().asked(np.arange(1)).prompts, [item for item in items if item >= 0]
    config = RewardsConfig(terms=dict.fromkeys(TERMS.keys() - {"preference"}, 1.0), gate=gate)
    among, alone = (rewards(prompts, _one(*group), NOTHING, judge(), config)[0] for group in (items, [*real, -1]))
    assert among[np.array(items) >= 0] == pytest.approx(alone[:-1], abs=1e-6)


def test_what_was_only_shown_is_never_a_positive_and_earns_its_own_reward_only() -> None:
    source, seen = pages(users=30), 0
    for asked in islice(source.walk(10, start=0, rank=0, processes=1), 8):
        for row, own in enumerate(asked.positives):
            user = int(np.flatnonzero(source.sequences.user_id == asked.prompts.user_id[row])[0])
            events = slice(source.sequences.offset[user], source.sequences.offset[user + 1])
            now = source.sequences.time[events] == asked.prompts.as_of[row]
            item, behaviour = source.sequences.item[events][now], source.sequences.behaviour[events][now]
            shown, taken = item[behaviour == EXPOSED], item[behaviour > EXPOSED]
            seen += len(shown)
            assert own.tolist() == sorted(taken.tolist())
            group = np.array([[*shown, *taken, ITEMS - 1]])
            earned = rewards(asked.prompts.take(np.array([row])), group, [own], judge(), PRICE)[0]
            price = judge().catalogue.price
            assert earned[: len(shown)].tolist() == price[shown].tolist()
            assert (earned[len(shown) : -1] == 1.0).all()  # the last item is the dearest
    assert seen > 50


def test_a_term_of_ones_own_is_a_function_and_a_line_of_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    def cheapness(prompts: Sequences, items: np.ndarray, judge: Judge) -> np.ndarray:
        return 1 - judge.catalogue.price[items]

    monkeypatch.setitem(TERMS, "cheapness", cheapness)
    recipe = parse_recipe("name: mine\nrewards:\n  gate: null\n  terms:\n    value: 1\n    cheapness: 3.0\n")
    config = recipe.part("rewards", RewardsConfig)
    earned = rewards(histories([]), _one(0, 1), NOTHING, _judge(price=[0.25, 1.0]), config)
    assert earned[0] == pytest.approx([0.25 + 3 * 0.75, 1.0])


@pytest.mark.parametrize(
    ("terms", "named"),
    [
        ("{value: 1.0, kindness: 2.0}", r"\['kindness'\] are unknown: use one or more of preference, relevance"),
        ("{}", "use one or more of preference"),
        ("{value: -0.5}", r"reward term 'value' weighs -0\.5"),
        ("{value: 5e-1}", "reward term 'value' weighs '5e-1'"),
        ("{value: .nan}", "reward term 'value' weighs nan"),
    ],
)
def test_a_term_that_cannot_be_is_named(terms: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        parse_recipe(f"name: mine\nrewards: {{terms: {terms}}}").part("rewards", RewardsConfig)
