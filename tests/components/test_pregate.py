"""A release on the log of the one that serves: harm that is shown stops it, and nothing else does."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.deploy.config import RolloutConfig
from components.pregate import component
from components.pregate.step import Weighed, bounds, card, weigh
from nextpage.experiments.off_policy import OffPolicyConfig
from nextpage.gates import Verdict
from nextpage.interactions.log import INTERACTION_SCHEMA
from serving.events import SCHEMAS
from serving.rollout.state import State
from serving.schema import Slate, SlateItem, SlateRequest
from tests.components.rollouts import a_rule, a_sealed_release, settings
from tests.serving.rollout.conftest import a_release

NOW = datetime(2026, 11, 10, tzinfo=UTC)
SERVED = NOW - timedelta(days=3)
LOGGED = {"tea": 0.5, "milk": 0.3, "bread": 0.2}
CLICKED = {"tea": 0.1, "milk": 0.5, "bread": 0.9}
WORSE = {"tea": 0.8, "milk": 0.15, "bread": 0.05}
BETTER = {"tea": 0.2, "milk": 0.3, "bread": 0.5}


class Shop:
    """A release that serves and drew slates of one item, and another one that finds items as likely as `target`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.target, self.histories = folder, WORSE, []
        a_sealed_release(folder / "r2", "r2", a_rule())
        self.config: RolloutConfig = settings(folder, events=str(folder / "events"))
        self.state = State(strategy="httproute", stable=a_release("r1"))
        self.interactions = folder / "interactions.parquet"
        monkeypatch.setattr("nextpage.recommender.load_recommender", lambda folder: None)
        monkeypatch.setattr("serving.slates.SlateMaker", lambda recommender: self)

    def slates(self, requests: Sequence[SlateRequest]) -> list[Slate]:
        self.histories += [request.history.items for request in requests]
        return [
            Slate(
                request_id=request.request_id,
                items=tuple(
                    SlateItem(item_id=item, score=float(np.log(self.target[item])), position=place, text=None)
                    for place, item in enumerate(request.stock or self.target)
                ),
                release_name="r2",
                release_hash="h",
                degraded=False,
                reason=None,
            )
            for request in requests
        ]

    def log(
        self, requests: int, *, propensity: Mapping[str, float] = LOGGED, users: Sequence[int] = range(1_000)
    ) -> None:
        """`users`: those who have a history."""
        draw, columns = np.random.default_rng(0), {kind: [] for kind in SCHEMAS}
        for number in range(requests):
            item = str(draw.choice(list(LOGGED), p=list(LOGGED.values())))
            row = {"request_id": f"q{number}", "user_id": f"u{number % 1_000}", "arm": None, "time": SERVED}
            row |= {"release_name": "r1", "release_hash": "hash-r1", "as_of": SERVED, "latency_ms": 1.0}
            columns["requests"].append(row | {"outcome": "served", "invalid_items": 0})
            shown = {"position": 0, "item_id": item, "score": 0.0, "propensity": propensity[item], "degraded": False}
            columns["exposures"].append(row | shown)
            if draw.random() < CLICKED[item]:
                said = {"item_id": item, "behaviour": "clicked", "time": SERVED, "received": SERVED}
                columns["feedback"].append({"request_id": f"q{number}", **said})
        for kind, rows in columns.items():
            (self.folder / "events" / kind).mkdir(parents=True)
            known = [{name: row.get(name) for name in SCHEMAS[kind].names} for row in rows]
            pq.write_table(
                pa.Table.from_pylist(known, schema=SCHEMAS[kind]), self.folder / "events" / kind / "1.parquet"
            )
        history = {"request_id": "before", "page": 0, "position": 0, "behaviour": "ordered"}
        events = [
            history | {"user_id": f"u{user}", "item_id": item, "timestamp": SERVED + timedelta(days=day)}
            for user in users
            for item, day in (("tea", -2), ("milk", -1), ("bread", 1))
        ]
        pq.write_table(pa.Table.from_pylist(events, schema=INTERACTION_SCHEMA), self.interactions)

    def weigh(self) -> Weighed:
        return weigh(self.config, self.state, self.folder / "r2", self.interactions, NOW)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    return Shop(tmp_path, monkeypatch)


@pytest.mark.parametrize(("target", "passed"), [(WORSE, False), (BETTER, True)])
def test_a_release_that_is_shown_to_be_worse_is_held(shop: Shop, target: dict[str, float], passed: bool) -> None:
    shop.log(4_000)
    shop.target = target
    found = shop.weigh()
    assert found.verdict.passed is passed
    assert found.requests == 2_000  # the newest of them
    truth = sum(target[item] * CLICKED[item] for item in target)
    for estimate in found.estimates:
        assert estimate.value == pytest.approx(truth, abs=0.06)
    assert card(found).startswith("# Not worse" if passed else "# HOLD: worse on the log")
    assert all(f"| {name} | 0." in card(found) for name in ("IPS", "SNIPS", "doubly robust"))


def test_it_reads_what_the_user_had_done_before_and_nothing_later(shop: Shop) -> None:
    shop.log(50)
    shop.weigh()
    assert set(shop.histories) == {("tea", "milk")}


@pytest.mark.parametrize(
    ("logged", "said"),
    [
        ({"requests": 300}, "rows of the new release's own"),
        ({"requests": 2_000, "propensity": dict.fromkeys(LOGGED, 0.9)}, "the weights' mean is"),
        ({"requests": 100, "users": ()}, "no request of a known user that r1 answered"),
        (None, "there is no event log"),
    ],
)
def test_a_log_that_says_nothing_is_told_and_stops_nothing(
    shop: Shop, logged: dict[str, Any] | None, said: str
) -> None:
    if logged is not None:
        shop.log(**logged)
    found = shop.weigh()
    assert found.verdict.passed
    assert said in found.verdict.reasons[0]
    assert said in card(found)


def test_the_margin_is_that_of_the_rules_guardrail_on_clicks_per_item(tmp_path: Path) -> None:
    a_sealed_release(tmp_path / "ruled", "ruled", a_rule())
    a_sealed_release(tmp_path / "ruleless", "ruleless")
    assert bounds(tmp_path / "ruled").margin == 0.05
    assert bounds(tmp_path / "ruleless") == OffPolicyConfig()


def test_the_component_leaves_verdict_card_and_figures(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.log(2_000)
    monkeypatch.setattr("components.deploy.config.read_rollout", lambda text: shop.config)
    monkeypatch.setattr("components.deploy.traffic.open_rollout", lambda _: SimpleNamespace(state=lambda: shop.state))
    logged: dict[str, float] = {}
    outputs = {name: SimpleNamespace(path=str(shop.folder / name)) for name in ("verdict", "card")}
    component.pregate.python_func(
        release=SimpleNamespace(path=str(shop.folder / "r2")),
        clean=SimpleNamespace(path=str(shop.folder)),
        rollout="",
        metrics=SimpleNamespace(log_metric=logged.__setitem__),
        **outputs,
    )
    assert not Verdict.read(shop.folder / "verdict").passed
    assert (shop.folder / "card").read_text().startswith("# HOLD")
    assert logged["difference_snips"] < 0
    assert logged["effective_rows"] > 1_000
