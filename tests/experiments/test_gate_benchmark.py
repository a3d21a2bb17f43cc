"""The benchmark computes many experiments at once; here its estimates and verdicts are held equal to the gate's own,
and with it the gate's errors are bounded."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from benchmarks import gate as benchmark
from nextpage.experiments.comparison import compare
from nextpage.experiments.gate import HOLD, PROMOTE, decide
from nextpage.experiments.sequential import SequentialConfig
from nextpage.experiments.summary import summarise

DAYS, USERS = 14, 2_500
RULE = replace(benchmark.make_rule(DAYS), minimum_users=1)
SPLITS = 300


@pytest.fixture(scope="module")
def panel():
    return benchmark.synthetic(USERS, DAYS, seed=0)


def treated(splits: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((splits, USERS)) < 0.5


def with_effect(panel: benchmark.Panel, inside: np.ndarray, effect: float) -> benchmark.Panel:
    return replace(panel, value=panel.value * np.where(inside, 1 + effect, 1.0)[:, None])


@pytest.mark.parametrize("effect", [0.0, 0.4, -0.4])
def test_its_estimates_and_its_verdicts_are_those_of_the_gate(panel, effect):
    inside = treated(1, seed=1)
    rows = benchmark.as_rows(with_effect(panel, inside[0], effect), inside[0])
    summary = summarise(rows, RULE, DAYS)
    treatment, control = benchmark.sums(panel, inside)
    value = benchmark.value_test(treatment, control, effect)
    clicks = benchmark.clicks_test(treatment, control, 0.0, RULE)
    for claim, (z, information) in zip(RULE.claims, (value, clicks), strict=True):
        for look in summary.looks:
            found = compare(claim, look, summary.columns)
            assert found.z == pytest.approx(z[0, look.day - 1], rel=1e-6, abs=1e-9)
            assert found.information == pytest.approx(information[0, look.day - 1], rel=1e-6)
    reached = [benchmark.reached(test, claim, RULE) for test, claim in zip((value, clicks), RULE.claims, strict=True)]
    outcome, day = benchmark.verdicts(*reached)[0]
    decided = [decide(RULE, summarise(rows, RULE, through)) for through in range(1, DAYS + 1)]
    first = next((one for one in decided if one.verdict != HOLD and one.cause != "horizon"), None)
    expected = (0, DAYS) if first is None else (1 if first.verdict == PROMOTE else -1, first.day)
    assert (outcome, day) == expected


@pytest.fixture(scope="module")
def no_effect():
    """z and information of the value in splits of ten panels, looked at daily."""
    parts = []
    for seed in range(10):
        panel = benchmark.synthetic(USERS, DAYS, seed)
        parts.append(benchmark.value_test(*benchmark.sums(panel, treated(SPLITS // 10, seed)), 0.0))
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


@pytest.mark.parametrize(
    "config", [SequentialConfig(), SequentialConfig(spending="pocock"), SequentialConfig(design="always_valid")]
)
def test_daily_looks_at_heavy_tails_err_no_more_often_than_alpha(no_effect, config):
    """300 A/A tests at α = 5% each way: a gate that errs as allowed passes this in all but one case of 10,000."""
    rule = replace(RULE, promotion_days=1, alpha=0.05, harm_alpha=0.05, sequential=config)
    found = benchmark.reached(no_effect, rule.claims[0], rule)
    most = binom.isf(1e-4, SPLITS, 0.05)
    assert (found == benchmark.SHOWN).any(axis=1).sum() <= most
    assert (found == benchmark.HARMED).any(axis=1).sum() <= most


def test_a_t_test_repeated_every_day_errs_far_more_often(no_effect):
    rule = replace(RULE, alpha=0.05)
    wrong = (benchmark.naive(no_effect[0], rule)[:, 0] == benchmark.SHOWN).sum()
    assert wrong > binom.isf(1e-4, SPLITS, 0.05)


def test_its_households_are_the_real_ones_drawn_anew_for_each_panel():
    real = benchmark.shoppers(28)
    assert 2_000 < len(real.value) <= 2_469
    assert (real.exposures >= real.clicks).all()
    assert real.before.sum() > 0
    panel, other = (benchmark.households(20_000, 28, seed) for seed in (0, 1))
    spent = {tuple(row) for row in np.column_stack([real.value, real.before])}
    assert all(tuple(row) in spent for row in np.column_stack([panel.value, panel.before])[:100])
    assert panel.value.mean() == pytest.approx(real.value.mean(), rel=0.05)
    assert not np.array_equal(panel.value, other.value)
