"""Evidence in, a record that is never replaced and a verdict out; no data is never a success."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.deploy.config import RolloutConfig
from components.deploy.registration import keep_catalogue, register
from components.gate import component
from components.gate.step import await_canary, judge, judge_canary
from nextpage.experiments.canary import CanaryConfig
from nextpage.experiments.record import Releases, read_record, reproduce
from nextpage.experiments.sealed import RecordRefused
from nextpage.gates import Verdict
from serving.events import EXPOSURES, REQUESTS
from serving.rollout.state import Phase, State
from serving.sinks import RedisStreamSink
from tests.components.rollouts import DAYS, a_rule, a_sealed_release, settings, write_evidence
from tests.serving.redis_server import RedisServer, redis_server
from tests.serving.rollout.conftest import a_release

__all__ = ["redis_server"]
BEGAN = datetime(2026, 11, 1, 12, tzinfo=UTC)
NOW = BEGAN + timedelta(days=DAYS, hours=1)


class Shop:
    """Two releases, one of them registered and at 10%."""

    def __init__(self, folder: Path, **rule: Any) -> None:
        self.folder, self.rule = folder, a_rule(**rule)
        manifest = a_sealed_release(folder / "r2", "r2", self.rule)
        self.config = settings(folder)
        self.state = State(
            strategy="httproute",
            phase=Phase.RAMPING,
            stable=a_release("r1"),
            candidate=a_release("r2", hash=manifest.hash),
            percent=10,
        )
        self.releases = Releases(control="hash-r1", treatment=manifest.hash)
        records = Path(self.config.records)
        for one in vars(self.releases).values():
            keep_catalogue(records, folder / "r2", one)
        register(records, name="r2", release=folder / "r2", releases=self.releases, began=BEGAN, experiment=True)

    @property
    def looks(self) -> list[Path]:
        return sorted((self.folder / "records/r2/ab").glob("*.json"))


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.mark.parametrize(
    ("case", "cause"),
    [("PROMOTE", "success"), ("HOLD", "undecided"), ("ROLLBACK", "harm"), ("INVALID", "quality"), ("no data", "data")],
)
def test_the_evidence_decides_and_the_record_reproduces_it(shop: Shop, case: str, cause: str) -> None:
    write_evidence(shop.folder / "evidence.parquet", case)
    record = judge(shop.config, shop.state, now=NOW)
    assert record is not None
    assert (record.decision.verdict, record.decision.cause) == (case.replace("no data", "HOLD"), cause)
    assert (record.percent, record.releases, record.rule_hash) == (10, shop.releases, shop.rule.hash)
    (path,) = shop.looks
    assert read_record(path) == record
    assert reproduce(record).verdict == record.decision.verdict


def test_a_day_is_looked_at_once_and_the_next_look_names_the_one_before(shop: Shop) -> None:
    evidence = shop.folder / "evidence.parquet"
    write_evidence(evidence, "HOLD", days=3)
    first = judge(shop.config, shop.state, now=NOW)
    write_evidence(evidence, "ROLLBACK", days=3)
    assert judge(shop.config, shop.state, now=NOW + timedelta(hours=1)) == first
    write_evidence(evidence, "HOLD", days=4)
    second = judge(shop.config, shop.state, now=NOW)
    assert first is not None
    assert second is not None
    assert second.previous == first.hash
    assert len(shop.looks) == 2


def test_a_success_waits_for_an_approval_and_names_who_gave_it(tmp_path: Path) -> None:
    shop = Shop(tmp_path, promotion="approval")
    write_evidence(tmp_path / "evidence.parquet", "PROMOTE")
    waiting = judge(shop.config, shop.state, now=NOW)
    assert waiting is not None
    assert (waiting.decision.verdict, waiting.decision.cause) == ("HOLD", "approval")
    approved = judge(shop.config, shop.state, approved_by="Ada", now=NOW)
    assert approved is not None
    assert (approved.decision.verdict, approved.approved_by, approved.previous) == ("PROMOTE", "Ada", waiting.hash)


def test_a_chain_of_records_that_was_tampered_with_is_refused(shop: Shop) -> None:
    for days in (2, 3, 4):
        write_evidence(shop.folder / "evidence.parquet", "HOLD", days=days)
        judge(shop.config, shop.state, now=NOW)
    first, second, _ = shop.looks
    text = second.read_text()
    second.unlink()
    with pytest.raises(RecordRefused, match="is missing"):
        judge(shop.config, shop.state, now=NOW)
    second.write_text(text.replace('"percent":10', '"percent":50'))
    with pytest.raises(RecordRefused, match="was changed after it was written"):
        judge(shop.config, shop.state, now=NOW)
    second.write_text(text)
    first.unlink()
    with pytest.raises(RecordRefused, match="no chain"):
        judge(shop.config, shop.state, now=NOW)


def test_another_control_than_the_registered_one_is_refused(shop: Shop) -> None:
    moved = replace(shop.state, stable=a_release("r0"))
    with pytest.raises(RecordRefused, match="is registered with"):
        judge(shop.config, moved, now=NOW)


def test_users_who_were_put_into_an_arm_by_hand_are_left_out(shop: Shop) -> None:
    write_evidence(shop.folder / "evidence.parquet", "HOLD")
    rows = pq.read_table(shop.folder / "evidence.parquet")
    chosen = rows["user_id"][0].as_py()
    config = replace(shop.config, overrides={chosen: "treatment"})
    record = judge(config, shop.state, now=NOW)
    assert record is not None
    assert sum(record.summary.users) == len(rows["user_id"].unique()) - 1


def log(
    folder: Path, shop: Shop, *, failed: int = 0, empty: int = 0, invalid: int = 0, requests: int = 300
) -> RolloutConfig:
    """Requests of both releases; of treatment's, some fail, some show nothing and some had invalid items."""
    asked, shown = [], []
    for release in vars(shop.releases).values():
        ours = release == shop.releases.treatment
        for number in range(requests):
            request = f"{release[:6]}-{number}"
            outcome = "failed" if ours and number < failed else "served"
            time = BEGAN + timedelta(seconds=number)
            asked.append(
                {
                    "request_id": request,
                    "user_id": f"user {number}",
                    "arm": "treatment" if ours else "control",
                    "release_name": release[:6],
                    "release_hash": release,
                    "time": time,
                    "latency_ms": 20.0,
                    "outcome": outcome,
                    "invalid_items": 3 if ours and failed <= number < failed + invalid else 0,
                }
            )
            if outcome == "served" and not (ours and number >= requests - empty):
                kinds = {"arm": asked[-1]["arm"], "item_id": "tea", "position": 0, "score": 0.0, "degraded": False}
                shown.append({**asked[-1], **kinds})
    for kind, rows, schema in (("requests", asked, REQUESTS), ("exposures", shown, EXPOSURES)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        rows = [{name: row.get(name) for name in schema.names} for row in rows]
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / kind / "rows.parquet")
    canary = CanaryConfig(requests=200)
    return replace(shop.config, events=str(folder), canary=canary)


@pytest.mark.parametrize(
    ("troubles", "verdict", "said"),
    [
        ({}, "PROMOTE", "no sign of harm"),
        ({"failed": 40}, "ROLLBACK", "errors: 40 of 300"),
        ({"empty": 40}, "ROLLBACK", "empty slates: 40 of 300"),
        ({"invalid": 40}, "ROLLBACK", "invalid items: 40 of 300"),
        ({"requests": 50}, "HOLD", "each must have answered 200"),
        ({"requests": 0}, "HOLD", "each must have answered 200"),
    ],
)
def test_the_canary_counts_what_went_wrong_in_the_log(
    shop: Shop, troubles: dict[str, int], verdict: str, said: str
) -> None:
    look = judge_canary(log(shop.folder / "events", shop, **troubles), shop.state, now=NOW)
    assert look is not None
    assert look.verdict == verdict
    assert said in look.reasons[0]


def test_what_servers_logged_to_redis_is_moved_into_the_log_before_a_look(
    shop: Shop, redis_server: RedisServer
) -> None:
    logged = log(shop.folder / "elsewhere", shop, failed=40)
    for kind in ("exposures", "requests"):
        RedisStreamSink(redis_server.url)(kind, pq.read_table(shop.folder / "elsewhere" / kind))
    config = replace(logged, events=str(shop.folder / "events"), event_stream=redis_server.url)
    for _ in range(2):  # again: nothing is counted twice
        look = judge_canary(config, shop.state, now=NOW)
        assert look is not None
        assert (look.verdict, look.treatment.requests, look.control.requests) == ("ROLLBACK", 300, 300)


def test_the_canary_counts_anew_at_every_share(shop: Shop) -> None:
    config = log(shop.folder / "events", shop)
    first = judge_canary(config, shop.state, now=NOW)
    assert first is not None
    assert (first.verdict, first.since) == ("PROMOTE", BEGAN.isoformat(timespec="seconds"))
    wider = replace(shop.state, percent=50)
    second = judge_canary(config, wider, now=NOW)
    assert second is not None
    assert (second.verdict, second.treatment.requests, second.previous) == ("HOLD", 0, first.hash)
    third = judge_canary(config, wider, now=NOW + timedelta(hours=1))
    assert third is not None
    assert third.since == second.since


def test_the_wait_for_the_canary_is_bounded(shop: Shop) -> None:
    config = replace(log(shop.folder / "events", shop, requests=50), canary_wait_minutes=1.0)
    now = [0.0]
    look = await_canary(
        config, lambda: shop.state, clock=lambda: now[0], sleep=lambda seconds: now.__setitem__(0, now[0] + seconds)
    )
    assert look is not None
    assert look.verdict == "HOLD"
    assert 60 <= now[0] <= 60 + config.poll_s


def left(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, shop: Shop, **given: Any) -> dict[str, Any]:
    """What the component of that name leaves."""
    monkeypatch.setattr("components.deploy.config.read_rollout", lambda text: shop.config)
    monkeypatch.setattr(
        "components.deploy.traffic.open_rollout", lambda config: SimpleNamespace(state=lambda: shop.state)
    )
    logged: dict[str, float] = {}
    names = ("record", "verdict", "card", "page") if name == "gate" else ("record", "verdict", "card")
    outputs = {one: SimpleNamespace(path=str(folder / f"{name}-{one}")) for one in names}
    metrics = SimpleNamespace(log_metric=logged.__setitem__)
    getattr(component, name).python_func(rollout="", metrics=metrics, **outputs, **given)
    return {"metrics": logged, **{one: Path(output.path) for one, output in outputs.items()}}


@pytest.mark.parametrize("case", ["PROMOTE", "INVALID", "no data"])
def test_the_gate_leaves_record_cards_figures_and_a_verdict_that_only_promote_passes(
    shop: Shop, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_evidence(shop.folder / "evidence.parquet", case)
    files = left(shop.folder, "gate", monkeypatch, shop)
    verdict = Verdict.read(files["verdict"])
    assert verdict.passed == (case == "PROMOTE")
    assert verdict.reasons[0] == case.replace("no data", "HOLD")
    assert files["card"].read_text().startswith(f"# {verdict.reasons[0]}: A/B test test")
    assert files["page"].read_text().startswith("<!doctype html>")
    assert files["metrics"]["percent"] == 10
    assert files["metrics"]["treatment_users"] == read_record(files["record"]).summary.users[1]


@pytest.mark.parametrize("name", ["gate", "canary"])
def test_nothing_to_judge_is_no_success(shop: Shop, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.state = State(strategy="httproute", stable=a_release("r1"))
    files = left(shop.folder, name, monkeypatch, shop)
    assert files["record"].read_text() == "null"
    assert not Verdict.read(files["verdict"]).passed
    assert "nothing to judge" in files["card"].read_text().lower()
    assert not shop.looks
