"""What the reward model is shown: labels, negatives, how often they were to be expected, and nothing of the future."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from nextpage.alignment.catalogue import read_catalogue
from nextpage.alignment.reward_examples import (
    Draws,
    ExamplesConfig,
    Pages,
    RewardBatch,
    RewardBatches,
    padded,
    pages_to_learn,
)
from nextpage.alignment.reward_items import RewardItems
from nextpage.interactions.log import Dataset
from nextpage.interactions.sequences import Sequences
from nextpage.tokenizers.item_tokenizer import ItemTokenizer
from nextpage.tokenizers.residual_kmeans import ResidualKMeans
from nextpage.tokenizers.semantic_ids import SemanticIds
from tests.alignment.planted import CATEGORIES, CLICKED, EXPOSED, ITEMS, ORDERED, catalogue, one_category_each

CONFIG = ExamplesConfig(own_history=6, own_categories=5, popular=4)
LOG = one_category_each(12)


def _pages(log: Sequences = LOG) -> Pages:
    return pages_to_learn(log, CONFIG.labels)


def _examples(log: Sequences = LOG, config: ExamplesConfig = CONFIG, *, events: int = 64, seed: int = 0) -> RewardBatch:
    draws = Draws(RewardItems.of(catalogue(), LOG), config)
    return draws.examples(_pages(log), np.random.default_rng(seed), events)


def _shown(pages: Pages, row: int) -> dict[int, int]:
    """Item → behaviour of a page."""
    events = slice(pages.start[row], pages.stop[row])
    log = pages.sequences
    return dict(zip(log.item[events].tolist(), log.behaviour[events].tolist(), strict=True))


def test_a_candidate_has_the_label_of_its_behaviour_on_the_page_and_zero_where_it_is_not_there() -> None:
    batch, pages = _examples(), _pages()
    label = {ORDERED: 1.0, CLICKED: 0.5, EXPOSED: 0.0}
    for row in range(len(pages)):
        shown = _shown(pages, row)
        for item, found in zip(batch.candidate[row].tolist(), batch.label[row].tolist(), strict=True):
            assert item < 0 or found == label[shown.get(item, EXPOSED)]
    assert set(batch.label.unique().tolist()) == {0.0, 0.5, 1.0}


def test_the_page_is_there_once_and_negatives_are_of_their_kind() -> None:
    batch, pages = _examples(), _pages()
    for row in range(len(pages)):
        shown, items = _shown(pages, row), batch.candidate[row].tolist()
        positives, exposed, drawn = items[:8], items[8:10], items[10:]
        good = {item for item, behaviour in shown.items() if behaviour != EXPOSED}
        assert sorted(item for item in positives if item >= 0) == sorted(good)
        assert {item for item in exposed if item >= 0} <= shown.keys() - good
        assert not good & set(drawn)
        before = slice(pages.history[row], pages.before[row])
        chosen = set(LOG.item[before][LOG.behaviour[before] != EXPOSED].tolist())
        assert {item for item in drawn[:6] if item >= 0} <= chosen
        categories = {item % CATEGORIES for item in chosen}
        assert {item % CATEGORIES for item in drawn[6:11] if item >= 0} <= categories


def test_more_positives_than_are_learnt_are_drawn_by_chance_and_counted_so() -> None:
    few = replace(CONFIG, positives=2)
    seen = [set(_examples(config=few, seed=seed).candidate[0, :2].tolist()) for seed in range(20)]
    assert all(len(items) == 2 for items in seen)
    assert len(set().union(*seen)) == 4  # all that the page holds
    whole, half = _examples(), _examples(config=few)
    assert torch.allclose(half.expected[0, 2:4], 2 * whole.expected[0, 8:10])  # the exposed, kept twice as surely


def test_negatives_come_as_often_as_is_expected_of_them() -> None:
    """Over many draws, for one page, of everything that is not on it."""
    config = replace(CONFIG, exposed_only=0)
    draws, page = Draws(RewardItems.of(catalogue(), LOG), config), _pages().take(np.full(4_000, 5))
    batch = draws.examples(page, np.random.default_rng(0), 64)
    drawn = batch.candidate[:, config.positives :]
    times = torch.bincount(drawn[drawn >= 0], minlength=ITEMS) / len(page)
    expected = torch.zeros(ITEMS)
    expected[batch.candidate[batch.candidate >= 0]] = batch.expected[batch.candidate >= 0]
    off_page = torch.tensor([item not in _shown(page, 0) for item in range(ITEMS)]) & (times > 0)
    assert off_page.sum() > 60
    assert torch.allclose(times[off_page], expected[off_page], atol=0.02, rtol=0.12)


def test_what_happens_at_or_after_the_page_changes_nothing() -> None:
    first = _pages().take(np.arange(0, len(_pages()), 11))  # each user's first target page
    later = np.zeros(len(LOG.item), dtype=bool)
    for start, stop in zip(first.stop, np.append(first.history[1:], len(LOG.item)), strict=True):
        later[start:stop] = True
    assert later.sum() > 500
    changed = replace(
        LOG, item=np.where(later, 3, LOG.item), behaviour=np.where(later, CLICKED, LOG.behaviour).astype(np.int8)
    )
    draws = Draws(RewardItems.of(catalogue(), LOG), CONFIG)
    one, other = (draws.examples(replace(first, sequences=log), np.random.default_rng(0), 64) for log in (LOG, changed))
    for name in ("candidate", "label", "expected"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    for name in ("item", "behaviour", "days", "pages"):
        assert torch.equal(getattr(one.history, name), getattr(other.history, name)), name
    assert (one.history.days[one.history.item >= 0] > 0).all()


def test_pages_of_one_second_do_not_see_each_other() -> None:
    together = replace(LOG, time=np.where(LOG.page == 6, LOG.time - 2 * 86_400, LOG.time))  # with page 5
    pages = _pages(together)
    number = together.page[pages.start]
    assert np.array_equal(pages.before[number == 6], pages.before[number == 5])
    assert np.array_equal(pages.before[number == 7], pages.start[number == 7])


def test_only_the_last_events_are_read() -> None:
    batch, pages = _examples(events=7), _pages()
    assert batch.history.item.shape[1] == 7
    assert batch.history.item[-1].tolist() == LOG.item[pages.before[-1] - 7 : pages.before[-1]].tolist()


def test_a_log_without_exposures_and_clicks_gives_sampled_negatives_alone() -> None:
    log = one_category_each(6, orders_only=True)
    batch = Draws(RewardItems.of(catalogue(), log), CONFIG).examples(_pages(log), np.random.default_rng(0), 64)
    assert (batch.candidate[:, 8:10] == -1).all()
    assert set(batch.label.unique().tolist()) == {0.0, 1.0}
    assert (batch.candidate[:, 10:] >= 0).float().mean() > 0.7


def test_a_first_page_has_positives_and_popular_negatives_only() -> None:
    log = one_category_each(6, learnt_from=0)
    pages = _pages(log)
    first = pages.take(np.flatnonzero(pages.before == pages.history))
    batch = Draws(RewardItems.of(catalogue(), log), CONFIG).examples(first, np.random.default_rng(0), 64)
    assert (batch.history.item == -1).all()
    assert (batch.candidate[:, 10:21] == -1).all()
    assert (batch.candidate[:, 21:] >= 0).any()


def test_a_catalogue_without_categories_takes_the_first_code(dataset: Dataset, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    item_ids = np.array([f"i{row:04d}" for row in range(200)], dtype=object)
    semantic_ids = SemanticIds.sorted(item_ids, draw.integers(0, 8, (200, 2)), (8, 8))
    semantic_ids.write(tmp_path / "semantic_ids.parquet")
    codebooks = draw.normal(size=(2, 8, 5)).astype(np.float32)
    tokenizer = ItemTokenizer(
        encoder="wordllama", weight=1.0, projection=np.zeros((5, 1), np.float32), quantiser=ResidualKMeans.of(codebooks)
    )
    (tmp_path / "tokenizer").mkdir()
    tokenizer.save(tmp_path / "tokenizer")
    pq.write_table(pq.read_table(dataset.items).drop_columns(["category"]), tmp_path / "items.parquet")
    items = RewardItems.of(read_catalogue(tmp_path, dataset), one_category_each(2))
    assert np.array_equal(items.category, semantic_ids.codes[:, 0])


def _batches(**changes: int) -> RewardBatches:
    draws = Draws(RewardItems.of(catalogue(), LOG), CONFIG)
    return RewardBatches(**{"pages": _pages(), "draws": draws, "events": 32, "batch_pages": 10, "seed": 3} | changes)


def test_an_epoch_shows_every_page_once_and_the_next_in_another_order() -> None:
    steps = round(len(_pages()) / 10)
    times = [batch.history.time for batch in islice(_batches().walk(start=0, rank=0, processes=1), 2 * steps)]
    first, second = torch.cat(times[:steps]), torch.cat(times[steps:])
    assert torch.equal(first.sort().values, torch.from_numpy(np.sort(_pages().time)))
    assert torch.equal(first.sort().values, second.sort().values)
    assert not torch.equal(first, second)


def test_a_walk_taken_up_again_goes_on_with_the_same_batches() -> None:
    whole = list(islice(_batches().walk(start=0, rank=0, processes=1), 8))
    resumed = next(_batches().walk(start=7, rank=0, processes=1))
    assert torch.equal(whole[7].candidate, resumed.candidate)
    assert torch.equal(whole[7].history.item, resumed.history.item)
    assert not torch.equal(whole[6].history.time, resumed.history.time)


def test_processes_share_the_pages_of_a_step() -> None:
    whole = next(_batches().walk(start=4, rank=0, processes=1)).history.time
    shares = [next(_batches().walk(start=4, rank=rank, processes=3)).history.time for rank in range(3)]
    assert torch.equal(whole.sort().values, torch.cat(shares).sort().values)


def test_more_processes_than_pages_in_a_step_is_an_error_that_says_what_to_raise() -> None:
    with pytest.raises(ValueError, match=r"step 0 has \d+ pages for 15 processes: raise batch_pages, which is 10"):
        next(_batches().walk(start=0, rank=0, processes=15))


def test_a_log_without_a_positive_is_an_error() -> None:
    nothing = pages_to_learn(replace(LOG, behaviour=np.zeros_like(LOG.behaviour)), CONFIG.labels)
    with pytest.raises(ValueError, match="no page has an item with a label above zero"):
        next(_batches(pages=nothing).walk(start=0, rank=0, processes=1))


def test_ranges_are_padded_at_their_end_and_cut_at_their_start() -> None:
    rows = padded(np.array([0, 3, 4]), np.array([3, 3, 9]), 4)
    assert rows.tolist() == [[0, 1, 2, -1], [-1, -1, -1, -1], [5, 6, 7, 8]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clicked": 2.0}, "labels ordered 1.0, clicked 2.0, exposed 0.0 must fall in this order"),
        ({"ordered": 0.4}, "labels ordered 0.4, clicked 0.5"),
        ({"positives": 0}, "positives is 0"),
        ({"own_history": -1}, "own_history and own_categories are numbers of draws"),
        ({"popular": 0}, "popular is 0: at least 1 draw"),
    ],
)
def test_settings_that_cannot_be_are_named(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExamplesConfig(**settings)
