"""What lets an aligned model take its base's place, and each thing that does not."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from nextpage.alignment.gate import GATE, AlignmentGateConfig, judge_alignment
from nextpage.alignment.standing import CUTOFFS, Standing
from nextpage.evaluation.bootstrap import BootstrapConfig
from nextpage.gates import Verdict

REQUESTS = 300
USERS = np.array([f"u{row}" for row in range(REQUESTS)], dtype=object)
CONFIG = AlignmentGateConfig(bootstrap=BootstrapConfig(resamples=300))
RECALLS = [f"{kind}Recall@{cutoff}" for kind in ("", "recommended ") for cutoff in CUTOFFS]

Change = Callable[[Standing], Standing]


def _base() -> Standing:
    draw = np.random.default_rng(0)
    return Standing(
        by_request={name: draw.random(REQUESTS) for name in (*RECALLS, "reward@10")},
        whole={"coverage@10": 0.5, "popularity_bias@10": 0.1},
        invalid=draw.random(40) * 0.1,
    )


def _noise(spread: float) -> np.ndarray:
    """Of mean zero exactly."""
    half = spread * np.random.default_rng(1).normal(size=REQUESTS // 2)
    return np.concatenate([half, -half])


def _moved(name: str, by: float | np.ndarray) -> Change:
    def change(standing: Standing) -> Standing:
        return replace(standing, by_request=standing.by_request | {name: standing.by_request[name] + by})

    return change


def _whole(name: str, value: float) -> Change:
    return lambda standing: replace(standing, whole=standing.whole | {name: value})


def _invalid(by: float | np.ndarray) -> Change:
    return lambda standing: replace(standing, invalid=standing.invalid + by)


def _aligned(*changes: Change) -> Standing:
    """The base with a reward that has clearly risen, and what is changed besides."""
    standing = _moved("reward@10", 0.05 + _noise(0.01))(_base())
    for change in changes:
        standing = change(standing)
    return standing


def _judged(*changes: Change, config: AlignmentGateConfig = CONFIG) -> Verdict:
    return judge_alignment(_base(), _aligned(*changes), USERS, config)


def test_a_model_that_earns_more_and_loses_nothing_passes_and_says_what_was_looked_at() -> None:
    verdict = _judged()
    assert verdict.passed
    assert verdict.gate == GATE
    (reason,) = verdict.reasons
    before, after = _base().figures, _aligned().figures
    for said in (
        f"mean reward {before['reward@10']:.4f} → {after['reward@10']:.4f}",
        f"Recall@10 {before['Recall@10']:.4f} → {before['Recall@10']:.4f}",
        f"hallucination {before['hallucination_rate']:.2%} → {before['hallucination_rate']:.2%}",
        f"{REQUESTS} requests",
    ):
        assert said in reason


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_moved("reward@10", -0.05), "mean reward of the first ten does not rise"),
        (_moved("reward@10", -0.1), "mean reward of the first ten does not rise: -0.0500"),
        *((_moved(name, -0.02), f"{name} may be inferior: -0.0200") for name in RECALLS),
        (_invalid(0.01), "more is made up"),
        (_whole("coverage@10", 0.39), "coverage falls from 50.00% to 39.00%"),
        (_whole("popularity_bias@10", 0.13), "popularity bias rises by +0.030, at most +0.020"),
    ],
)
def test_each_bound_breaks_alone_and_is_named(change: Change, named: str) -> None:
    verdict = _judged(change)
    assert not verdict.passed
    (reason,) = verdict.reasons
    assert reason.startswith(named)


def test_every_bound_that_broke_is_named() -> None:
    verdict = _judged(_moved("Recall@1", -0.5), _whole("coverage@10", 0.0), _invalid(0.5))
    assert [reason.split(" ")[0] for reason in verdict.reasons] == ["Recall@1", "more", "coverage"]


@pytest.mark.parametrize(
    "change",
    [
        _moved("Recall@10", -0.005 + _noise(0.005)),
        _invalid(-0.01),
        _whole("coverage@10", 0.41),
        _whole("popularity_bias@10", 0.119),
        _whole("popularity_bias@10", -0.5),
    ],
)
def test_what_stays_inside_a_bound_breaks_nothing(change: Change) -> None:
    assert _judged(change).passed


def test_recall_that_may_be_inferior_fails_though_its_mean_is_not() -> None:
    """Non-inferiority is a matter of the interval: of two equal means the uncertain one fails."""
    certain, uncertain = (_judged(_moved("Recall@50", 0.01 + _noise(spread))) for spread in (0.05, 1.0))
    assert certain.passed
    assert not uncertain.passed
    assert uncertain.reasons[0].startswith("Recall@50 may be inferior: +0.0100 (-0.")


def test_a_rise_of_reward_that_may_be_none_is_none() -> None:
    verdict = _judged(_moved("reward@10", _noise(1.0)))
    assert not verdict.passed
    assert verdict.reasons[0].startswith("mean reward of the first ten does not rise: +0.0500 (-0.")


def test_the_margin_is_the_recipes() -> None:
    lower = _moved("Recall@5", -0.05)
    assert _judged(lower, config=replace(CONFIG, recall_margin=0.06)).passed
    assert not _judged(lower, config=replace(CONFIG, recall_margin=0.04)).passed


def test_requests_of_one_user_are_no_separate_evidence() -> None:
    """A rise that three hundred users show is one that two users may show by chance."""
    rise = np.where(np.arange(REQUESTS) < REQUESTS // 2, 0.4, -0.1)
    aligned = _aligned(_moved("reward@10", rise))
    assert judge_alignment(_base(), aligned, USERS, CONFIG).passed
    two = np.where(np.arange(REQUESTS) < REQUESTS // 2, "one", "other").astype(object)
    assert not judge_alignment(_base(), aligned, two, CONFIG).passed


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value encountered")
@pytest.mark.parametrize(
    "change",
    [
        *(_moved(name, np.nan) for name in (*RECALLS, "reward@10")),
        _invalid(np.nan),
        _whole("coverage@10", np.nan),
        _whole("popularity_bias@10", np.nan),
    ],
)
def test_what_was_not_measured_never_passes(change: Change) -> None:
    verdict = _judged(change)
    assert not verdict.passed
    assert len(verdict.reasons) == 1
    both = judge_alignment(change(_base()), change(_aligned()), USERS, CONFIG)
    assert not both.passed


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value encountered")
def test_nothing_asked_is_never_a_success() -> None:
    none = np.array([])
    asked_nobody = Standing(
        by_request=dict.fromkeys((*RECALLS, "reward@10"), none), whole=_base().whole, invalid=_base().invalid
    )
    assert not judge_alignment(asked_nobody, asked_nobody, USERS[:0], CONFIG).passed
    generated_nothing = [replace(standing, invalid=none) for standing in (_base(), _aligned())]
    verdict = judge_alignment(*generated_nothing, USERS, CONFIG)
    assert not verdict.passed
    assert verdict.reasons[0].startswith("more is made up")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"split": "test"}, "reads split 'test', which is kept for evaluation"),
        ({"recall_margin": -0.01}, r"recall_margin is -0\.01"),
        ({"coverage_share": 1.2}, r"coverage_share 1\.2"),
    ],
)
def test_a_wrong_setting_is_named(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        replace(CONFIG, **changes)  # type: ignore[arg-type]
