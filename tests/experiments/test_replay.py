"""What simulated users do: only what the real ones wanted, and only where it is looked at."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextpage.experiments.off_policy import LoggedChoices, OffPolicyConfig, ips, snips
from nextpage.experiments.replay import CLICKED, ORDERED, UserConfig, examination, react, read_pages, read_shoppers
from nextpage.interactions.log import Dataset
from tests.held_out import write_evaluation
from tests.synthetic import write_dataset

ITEMS = [f"i{row}" for row in range(10)]
EVERYTHING = UserConfig(position_bias=0.0, stray_clicks=0.0)


@settings(max_examples=50, deadline=None)
@given(shown=st.permutations(ITEMS), wanted=st.dictionaries(st.sampled_from([*ITEMS, "x", "y"]), st.floats(0, 9)))
def test_orders_are_the_hits_of_the_slate_where_everything_is_looked_at(
    shown: list[str], wanted: dict[str, float]
) -> None:
    found = react("r", shown, wanted, EVERYTHING)
    assert [reaction.item_id for reaction in found] == [item for item in shown if item in wanted]
    assert all(reaction.behaviour == ORDERED and reaction.value == wanted[reaction.item_id] for reaction in found)


def test_positions_are_looked_at_as_often_as_the_model_says_and_higher_ones_more() -> None:
    config = UserConfig(position_bias=0.7, stray_clicks=0.0)
    wanted = dict.fromkeys(ITEMS, 1.0)
    counts = np.zeros(len(ITEMS))
    for number in range(8_000):
        for reaction in react(f"r{number}", ITEMS, wanted, config):
            counts[ITEMS.index(reaction.item_id)] += 1
    rate = examination(len(ITEMS), config)
    assert (np.diff(rate) < 0).all()
    assert rate[0] == 1 == counts[0] / 8_000
    assert np.abs(counts / 8_000 - rate).max() < 5 * np.sqrt(0.25 / 8_000)


def test_a_request_has_the_same_feedback_again_and_another_seed_has_other() -> None:
    def feedback(seed: int) -> list[object]:
        config = UserConfig(seed=seed, stray_clicks=0.3)
        return [react(f"r{number}", ITEMS, {"i3": 2.0, "i8": 1.0}, config) for number in range(50)]

    assert feedback(1) == feedback(1)
    assert feedback(1) != feedback(2)


def test_what_was_not_wanted_is_clicked_by_mistake_and_never_ordered() -> None:
    config = UserConfig(position_bias=0.0, stray_clicks=0.2)
    found = [reaction for number in range(2_000) for reaction in react(f"r{number}", ITEMS, {"i0": 1.0}, config)]
    strays = [reaction for reaction in found if reaction.item_id != "i0"]
    assert {(reaction.behaviour, reaction.value) for reaction in strays} == {(CLICKED, None)}
    assert len(strays) / (9 * 2_000) == pytest.approx(0.2, abs=5 * np.sqrt(0.16 / 18_000))


def test_dividing_by_the_chance_of_a_look_recovers_what_was_wanted_wherever_it_stood() -> None:
    """Orders over examination are unbiased for the hits of the slate, though most of them were never looked at."""
    config = UserConfig(position_bias=1.0)
    draw, wanted = np.random.default_rng(0), {"i1": 1.0, "i4": 1.0, "i6": 1.0}
    seen, weight = [], 1 / examination(len(ITEMS), config)
    for number in range(6_000):
        shown = draw.permutation(ITEMS).tolist()
        ordered = [one.item_id for one in react(f"r{number}", shown, wanted, config) if one.behaviour == ORDERED]
        seen.append((len(ordered), sum(weight[shown.index(item)] for item in ordered)))
    naive, debiased = np.mean(seen, axis=0)
    error = np.std(seen, axis=0)[1] / np.sqrt(len(seen))
    assert abs(debiased - len(wanted)) < 4 * error < 0.3
    assert naive < 0.5 * len(wanted)


def test_off_policy_estimates_from_logged_slates_recover_what_another_policy_earns() -> None:
    """Two policies draw an item for the first place; IPS and SNIPS on the log of one find the orders of the other."""
    logging = np.linspace(2, 1, 10) / np.linspace(2, 1, 10).sum()
    target, wanted = logging[::-1], {"i7": 1.0, "i8": 1.0}
    draw = np.random.default_rng(0)

    def orders(chosen: np.ndarray) -> np.ndarray:
        found = [react(f"r{number}", [ITEMS[row]], wanted, UserConfig()) for number, row in enumerate(chosen)]
        return np.array([sum(one.behaviour == ORDERED for one in some) for some in found], dtype=float)

    chosen = draw.choice(10, size=4_000, p=logging)
    log = LoggedChoices(
        reward=orders(chosen), logged=logging[chosen], target=target[chosen], cluster=np.arange(len(chosen))
    )
    truth = orders(draw.choice(10, size=4_000, p=target)).mean()
    for estimate in (ips(log, OffPolicyConfig()), snips(log, OffPolicyConfig())):
        assert estimate.value == pytest.approx(truth, abs=0.04)
        assert estimate.logged < truth - 0.05


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    made = write_dataset(tmp_path, users=5, pages=8)
    write_evaluation(made, tmp_path / "evaluation.parquet", first_page=6)
    return made


def test_pages_come_in_order_of_time_with_what_was_before_them_and_what_was_ordered_on_them(dataset: Dataset) -> None:
    log = pq.read_table(dataset.interactions).to_pylist()
    pages = list(read_pages(dataset.folder / "evaluation.parquet", dataset.interactions, history_events=4))
    assert [page.as_of for page in pages] == sorted(page.as_of for page in pages)
    assert {page.request_id for page in pages} == {row["request_id"] for row in log if row["page"] >= 6}
    for page in pages:
        of_user = [row for row in log if row["user_id"] == page.user_id]
        before = [row for row in of_user if row["timestamp"].timestamp() < page.as_of][-4:]
        assert page.items == [row["item_id"] for row in before]
        assert page.behaviours == [row["behaviour"] for row in before]
        assert page.times == [int(row["timestamp"].timestamp()) for row in before]
        on_it = [row for row in of_user if row["request_id"] == page.request_id]
        assert page.wanted == {row["item_id"]: row["value"] for row in on_it if row["behaviour"] == ORDERED}


def test_shoppers_are_described_by_what_they_did_before(dataset: Dataset) -> None:
    log = pq.read_table(dataset.interactions).to_pylist()
    moments = sorted(row["timestamp"].timestamp() for row in log)
    half = int(moments[len(moments) // 2])
    before = [row for row in log if row["timestamp"].timestamp() < half]
    found = read_shoppers(dataset.interactions, half).to_pylist()
    assert [one["user_id"] for one in found] == sorted({row["user_id"] for row in before})
    for one in found:
        own = [row for row in before if row["user_id"] == one["user_id"]]
        assert one["pre_orders"] == sum(row["behaviour"] == ORDERED for row in own)
        assert one["pre_requests"] == len({row["request_id"] for row in own})
    most = max(one["pre_requests"] for one in found)
    assert {one["segment_shopper"] for one in found if one["pre_requests"] == most} == {"frequent"}
