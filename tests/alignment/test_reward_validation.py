"""A reward model against logs whose truth is known, and the figures against scikit-learn."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from nextpage.alignment.reward_items import RewardItems
from nextpage.alignment.reward_model import make_reward_model, read, score
from nextpage.alignment.reward_validation import (
    RewardQuality,
    auc,
    calibration,
    held_out_histories,
    measure_reward_model,
    quality,
    refusal,
    user_auc,
)
from nextpage.interactions.log import Dataset, Split
from tests.alignment.planted import CATEGORIES, ITEMS, catalogue, one_category_each, shuffled
from tests.alignment.reward_worker import CONFIG, logs


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models of the planted logs, trained by the project's loop."""
    folder = tmp_path_factory.mktemp("reward")
    command = [sys.executable, "-m", "tests.alignment.reward_worker", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def planted(trained: Path) -> RewardQuality:
    return measure_reward_model(read(trained / "planted"), one_category_each(60, seed=1))


@pytest.mark.parametrize("name", ["planted", "orders-only"])
def test_the_category_that_a_user_buys_is_learnt(trained: Path, name: str) -> None:
    prompts = one_category_each(60, seed=1, orders_only=name == "orders-only")
    rewards = score(read(trained / name), prompts, np.tile(np.arange(ITEMS), (60, 1)))
    theirs = np.arange(ITEMS) % CATEGORIES == (np.arange(60) % CATEGORIES)[:, None]
    assert auc(rewards.ravel(), theirs.ravel()) > 0.97


def test_what_was_on_the_page_is_told_from_what_was_not(planted: RewardQuality) -> None:
    # Of the user's category any item may be next, and half of the candidates are of it: more than .8 cannot be had.
    assert planted.auc > 0.75
    assert planted.user_auc > 0.75
    assert 0.4 < planted.own_auc < 0.6


def test_rewards_are_the_probabilities_of_being_on_the_page_though_negatives_were_drawn(planted: RewardQuality) -> None:
    assert planted.ratio == pytest.approx(1, abs=0.25)
    assert planted.bins[-1].foretold == pytest.approx(planted.bins[-1].observed, rel=0.3)
    assert planted.bins[0].foretold < 0.02


def test_from_shuffled_items_nothing_is_learnt_and_rl_is_refused(trained: Path) -> None:
    found = measure_reward_model(read(trained / "shuffled"), shuffled(one_category_each(120, seed=1), seed=1))
    assert found.auc == pytest.approx(0.5, abs=0.05)
    sentence = refusal(found, CONFIG)
    assert sentence is not None
    assert sentence.startswith(f"the reward model's AUC on {found.pages} held-out pages is {found.auc:.3f}, below")


def test_a_good_reward_model_is_not_refused(planted: RewardQuality) -> None:
    assert refusal(planted, CONFIG) is None


def test_an_auc_that_cannot_be_told_is_refused(planted: RewardQuality) -> None:
    assert refusal(replace(planted, auc=float("nan")), CONFIG) is not None


def test_training_changes_every_parameter(trained: Path) -> None:
    torch.manual_seed(CONFIG.loop.seed)
    fresh = make_reward_model(CONFIG, RewardItems.of(catalogue(), logs()["planted"]))
    learnt = dict(read(trained / "planted").named_parameters())
    before = {name: weight for name, weight in fresh.named_parameters() if name != "projection.weight"}
    before["item.weight"] = fresh.represent(torch.arange(len(fresh.category)))
    assert learnt.keys() == before.keys()
    assert [name for name, weight in before.items() if torch.allclose(weight, learnt[name], atol=1e-5)] == []


def test_auc_is_that_of_scikit_learn_with_ties() -> None:
    draw = np.random.default_rng(0)
    score, good = draw.integers(0, 20, 500) / 20, draw.random(500) < 0.3
    assert auc(score, good) == pytest.approx(roc_auc_score(good, score), abs=1e-12)
    assert np.isnan(auc(score, np.ones(500, dtype=bool)))


def test_user_auc_is_the_mean_of_scikit_learns_by_candidates_over_users_with_both_classes() -> None:
    draw = np.random.default_rng(1)
    user, score = draw.integers(0, 40, 600), draw.random(600)
    good = (draw.random(600) < 0.2) & (user != 3)
    users = [(user == number) for number in range(40) if 0 < good[user == number].sum() < (user == number).sum()]
    assert 20 < len(users) < 40
    aucs = [roc_auc_score(good[of], score[of]) for of in users]
    assert user_auc(score, good, user) == pytest.approx(np.average(aucs, weights=[of.sum() for of in users]), abs=1e-12)


def test_rewards_that_are_probabilities_have_no_calibration_error_and_doubled_ones_show_it() -> None:
    draw = np.random.default_rng(2)
    probability = draw.random(40_000) * 0.5
    label = (draw.random(40_000) < probability).astype(np.float32)
    own, user = np.ones(40_000, dtype=bool), np.zeros(40_000)
    right = quality(probability, label, own, user, pages=1)
    double = quality(2 * probability, label, own, user, pages=1)
    assert right.calibration_error < 0.01
    assert right.ratio == pytest.approx(1, abs=0.03)
    assert double.calibration_error == pytest.approx(0.25, abs=0.01)
    assert double.ratio == pytest.approx(2, abs=0.06)
    assert double.auc == right.auc
    assert sum(part.candidates for part in calibration(probability, label)) == 40_000


def test_held_out_histories_end_with_their_split_and_ask_for_its_pages(dataset: Dataset) -> None:
    item_ids = [f"i{row:04d}" for row in range(200)]
    split = dataset.split()
    assert split.validation_start is not None
    assert split.test_start is not None
    held_out = held_out_histories(dataset, item_ids)
    assert held_out.time.max() < split.test_start.timestamp()
    owner = np.repeat(np.arange(len(held_out)), np.diff(held_out.offset))
    asked = held_out.time >= held_out.target_from[owner]
    assert np.array_equal(asked, held_out.time >= split.validation_start.timestamp())


def test_held_out_pages_of_a_leave_one_out_split_are_the_last_but_one(dataset: Dataset) -> None:
    dataset.write_split(Split(kind="leave_one_out"))
    held_out = held_out_histories(dataset, [f"i{row:04d}" for row in range(200)])
    owner = np.repeat(np.arange(len(held_out)), np.diff(held_out.offset))
    last = held_out.page[held_out.offset[1:] - 1]
    assert set(last.tolist()) == {14}  # of 16 pages, from 0
    assert np.array_equal(held_out.time >= held_out.target_from[owner], held_out.page == last[owner])
