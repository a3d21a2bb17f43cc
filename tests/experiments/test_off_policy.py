"""On a simulation where the truth is known, and on the Open Bandit Dataset, where both policies were run."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from nextpage.experiments.off_policy import (
    LoggedChoices,
    OffPolicyConfig,
    doubly_robust,
    ips,
    off_policy_gate,
    off_policy_harm,
    snips,
)

CONFIG = OffPolicyConfig()
ITEMS, CONTEXTS = 10, 4
# Clicks ∕ impressions of the whole data set (Saito et al. 2021, table 1); of the sample here, 10,000 a campaign.
TRUTH = {
    ("all", "random"): 4_768 / 1_374_327,
    ("men", "random"): 2_321 / 452_949,
    ("women", "random"): 4_163 / 864_585,
    ("all", "bts"): 0.0050,
    ("men", "bts"): 0.0067,
    ("women", "bts"): 0.0064,
}


def policies(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logging and evaluated probabilities and the reward's chance, [CONTEXTS, ITEMS] each."""
    draw = np.random.default_rng(seed)
    return (
        draw.dirichlet(np.ones(ITEMS) * 2, CONTEXTS),
        draw.dirichlet(np.ones(ITEMS), CONTEXTS),
        draw.random((CONTEXTS, ITEMS)) * 0.4,
    )


def logged(rows: int, seed: int, guess: float | None = None) -> tuple[LoggedChoices, float]:
    """Choices and the true value of the evaluated policy. `guess`: what the reward's model is off by, as a factor."""
    logging, evaluated, chance = policies()
    draw = np.random.default_rng(seed)
    context = draw.integers(0, CONTEXTS, rows)
    item = (draw.random(rows)[:, None] > logging[context].cumsum(axis=1)).sum(axis=1).clip(0, ITEMS - 1)
    model = None if guess is None else chance * guess
    choices = LoggedChoices(
        reward=(draw.random(rows) < chance[context, item]).astype(float),
        logged=logging[context, item],
        target=evaluated[context, item],
        cluster=np.arange(rows),
        predicted=None if model is None else model[context, item],
        expected=None if model is None else (evaluated * model).sum(axis=1)[context],
    )
    return choices, float((evaluated * chance).sum(axis=1).mean())


@pytest.mark.parametrize("estimator", [ips, snips, doubly_robust])
def test_estimates_find_the_truth_and_their_intervals_hold_it_as_often_as_they_say(estimator):
    values, held = [], 0
    for seed in range(300):
        choices, truth = logged(2_000, seed, guess=0.5)
        found = estimator(choices, CONFIG)
        values.append(found.value)
        held += found.low <= truth <= found.high
    assert np.mean(values) == pytest.approx(truth, abs=4 * np.std(values) / math.sqrt(300) + 1e-3)
    assert 0.91 <= held / 300 <= 0.985


def test_doubly_robust_survives_a_wrong_guess_and_gains_from_a_right_one():
    errors = {}
    for name, guess in (("wrong", 2.0), ("right", 1.0)):
        found = [
            doubly_robust(choices, CONFIG).value - truth
            for choices, truth in (logged(2_000, s, guess) for s in range(200))
        ]
        errors[name] = np.std(found)
        assert np.mean(found) == pytest.approx(0, abs=4 * np.std(found) / math.sqrt(200))
    plain = np.std([ips(choices, CONFIG).value - truth for choices, truth in (logged(2_000, s) for s in range(200))])
    assert errors["right"] < min(plain, errors["wrong"])


def test_a_release_that_chooses_alike_earns_what_was_logged():
    choices, _ = logged(1_000, 1)
    same = replace(choices, target=choices.logged)
    found = snips(same, CONFIG)
    assert found.value == pytest.approx(choices.reward.mean())
    assert (found.difference, found.effective_rows, found.mean_weight) == pytest.approx((0, 1_000, 1))
    assert found.difference_high - found.difference_low == pytest.approx(0, abs=1e-12)
    assert off_policy_gate(found, replace(CONFIG, fewest=1_000)).passed


def test_copies_of_a_users_rows_do_not_narrow_the_interval():
    choices, _ = logged(500, 2)
    copied = LoggedChoices(
        **{name: np.repeat(getattr(choices, name), 9) for name in ("reward", "logged", "target", "cluster")}
    )
    once, many = snips(choices, CONFIG), snips(copied, CONFIG)
    assert many.high - many.low == pytest.approx(once.high - once.low, rel=1e-9)


def test_a_clearly_better_release_passes_and_a_worse_one_does_not():
    choices, truth = logged(20_000, 3)
    assert truth != pytest.approx(choices.reward.mean(), rel=0.05)
    found = snips(choices, CONFIG)
    assert off_policy_gate(found, CONFIG).passed is bool(truth > choices.reward.mean())
    opposite = replace(found, difference_low=-found.difference_high, difference_high=-found.difference_low)
    assert off_policy_gate(opposite, CONFIG).passed is not off_policy_gate(found, CONFIG).passed


def test_wrong_probabilities_show_in_the_weights():
    choices, _ = logged(20_000, 4)
    wrong = replace(choices, logged=np.full(20_000, 0.05))
    verdict = off_policy_gate(ips(wrong, CONFIG), CONFIG)
    assert not verdict.passed
    assert any("the weights' mean is" in reason for reason in verdict.reasons)


def test_too_few_effective_rows_say_nothing():
    choices, _ = logged(200, 5)
    verdict = off_policy_gate(snips(choices, CONFIG), CONFIG)
    assert not verdict.passed
    assert "rows of the new release's own" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("case", "stops"),
    [("worse", True), ("better", False), ("worse, but few rows", False), ("worse, but wrong weights", False)],
)
def test_only_harm_that_every_estimate_shows_stops_a_release(case, stops):
    choices, truth = logged(40_000, 8, guess=1.0)
    assert truth > 1.05 * choices.reward.mean()
    estimates = [estimate(choices, CONFIG) for estimate in (ips, snips, doubly_robust)]
    config = replace(CONFIG, fewest=1e9) if "few" in case else CONFIG
    for place, found in enumerate(estimates):
        if "wrong" in case:
            found = replace(found, mean_weight=1.5)
        if case != "better":
            flipped = {"difference_low": -found.difference_high, "difference_high": -found.difference_low}
            estimates[place] = replace(found, **flipped)
    verdict = off_policy_harm(estimates, config)
    assert verdict.passed is not stops
    assert [reason.partition(":")[0] for reason in verdict.reasons[-3:]] == ["IPS", "SNIPS", "doubly robust"]
    assert ("worse than" in verdict.reasons[-1]) is stops
    if stops:  # one that does not agree is enough to let it pass
        assert off_policy_harm([*estimates[:2], replace(estimates[2], difference_high=0.0)], config).passed


def test_cut_weights_are_counted():
    choices, _ = logged(2_000, 6)
    found = ips(choices, replace(CONFIG, largest_weight=1.0))
    assert found.cut == pytest.approx((choices.target > choices.logged).mean())
    assert found.value < ips(choices, CONFIG).value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logged": np.array([0.0, 0.5])}, "not in"),
        ({"target": np.array([1.2, 0.5])}, "not in"),
        ({"reward": np.array([np.nan, 0.0])}, "not finite"),
        ({name: np.zeros(0) for name in ("reward", "logged", "target", "cluster")}, "no choice was logged"),
    ],
)
def test_choices_that_cannot_be_are_refused(change, message):
    good = {"reward": np.ones(2), "logged": np.full(2, 0.5), "target": np.full(2, 0.5), "cluster": np.arange(2)}
    with pytest.raises(ValueError, match=message):
        LoggedChoices(**{**good, **change})


def test_an_estimate_that_lacks_what_it_needs_is_refused():
    choices, _ = logged(10, 7)
    with pytest.raises(ValueError, match="use snips without them"):
        doubly_robust(choices, CONFIG)
    with pytest.raises(ValueError, match="none of the logged items"):
        snips(replace(choices, target=np.zeros(10)), CONFIG)


def open_bandit(campaign: str, policy: str) -> dict[str, np.ndarray]:
    table = pq.read_table(
        Path(__file__).parent / "open_bandit" / "log.parquet",
        filters=[("campaign", "==", campaign), ("policy", "==", policy)],
    )
    return {name: table[name].to_numpy(zero_copy_only=False) for name in ("item_id", "position", "click", "propensity")}


def thompson_from_random(campaign: str) -> LoggedChoices:
    """Thompson sampling evaluated on what the random policy logged. Its probability to show an item at a position is
    taken from how often it did, in its own log; its clicks are not looked at."""
    random, thompson = open_bandit(campaign, "random"), open_bandit(campaign, "bts")
    shown = np.zeros((random["item_id"].max() + 1, 4))
    np.add.at(shown, (thompson["item_id"], thompson["position"]), 1)
    target = (shown / shown.sum(axis=0).clip(1))[random["item_id"], random["position"]]
    clicks = random["click"].astype(float)
    half = np.arange(len(clicks)) % 2  # each half's rewards are predicted by the other half's click rate
    rate = np.array([clicks[half != side].mean() for side in (0, 1)])[half]
    return LoggedChoices(
        reward=clicks,
        logged=random["propensity"],
        target=target,
        cluster=np.arange(len(clicks)),
        predicted=rate,
        expected=rate,
    )


@pytest.mark.parametrize("campaign", ["all", "men", "women"])
@pytest.mark.parametrize("estimator", [ips, snips, doubly_robust])
def test_on_real_logs_every_interval_holds_what_the_other_policy_really_earned(campaign, estimator):
    found = estimator(thompson_from_random(campaign), CONFIG)
    assert found.low <= TRUTH[campaign, "bts"] <= found.high
    assert found.mean_weight == pytest.approx(1, abs=4 * found.mean_weight_error)
    assert found.effective_rows > CONFIG.fewest
    assert found.value > 0.5 * TRUTH[campaign, "bts"]


@pytest.mark.parametrize("campaign", ["all", "men", "women"])
def test_a_policy_that_hardly_explored_is_no_ground_to_judge_another_on(campaign):
    """Thompson sampling showed some items once in a million: from its log the random policy cannot be told."""
    log = open_bandit(campaign, "bts")
    choices = LoggedChoices(
        reward=log["click"].astype(float),
        logged=log["propensity"],
        target=np.full(len(log["click"]), 1 / (log["item_id"].max() + 1)),
        cluster=np.arange(len(log["click"])),
    )
    verdict = off_policy_gate(snips(choices, CONFIG), CONFIG)
    assert not verdict.passed
    assert "rows of the new release's own" in verdict.reasons[0]
    assert abs(snips(choices, CONFIG).value / TRUTH[campaign, "random"] - 1) > 0.2
