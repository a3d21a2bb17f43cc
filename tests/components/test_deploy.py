"""Traffic moves as the records say: once, from their own share, and whatever dies or fails on the way."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from components.deploy.config import RolloutConfig, read_rollout
from components.deploy.registration import read_registration
from components.deploy.step import Action, act, action_verdict, start
from components.deploy.storage import label
from nextpage.experiments.canary import Answered, CanaryConfig
from nextpage.experiments.canary_record import CanaryRecord, make_canary_record, write_canary_record
from nextpage.experiments.record import Releases, make_record, write_record
from nextpage.experiments.sealed import RecordRefused
from nextpage.experiments.summary import Summary, summarise
from nextpage.gates import GateFailed
from nextpage.release import Manifest, ReleaseRefused, read_manifest
from serving.rollout.cluster import ApiError, Cluster
from serving.rollout.errors import ReleaseRejected
from serving.rollout.rollout import Rollout
from serving.rollout.state import Phase, State
from tests.components.rollouts import DAYS, a_rule, a_sealed_release, settings, write_evidence
from tests.serving.rollout.conftest import World, a_world
from tests.serving.rollout.test_crash import Died, Mortal
from tests.serving.rollout.test_faults import QUICK, often

NOW = datetime(2026, 11, 8, tzinfo=UTC)
RULE = a_rule()


@pytest.fixture(scope="session")
def summaries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Summary]:
    """By the verdict that they come out as."""
    import pyarrow.parquet as pq

    path, found = tmp_path_factory.mktemp("evidence") / "evidence.parquet", {}
    for case in ("PROMOTE", "HOLD", "ROLLBACK", "INVALID"):
        write_evidence(path, case)
        found[case] = summarise(pq.read_table(path), RULE, DAYS)
    return found


@pytest.fixture(scope="session")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Releases r1 and r2: sealed once, for whoever dies at each of a hundred calls."""
    folder = tmp_path_factory.mktemp("sealed")
    for name in ("r1", "r2"):
        a_sealed_release(folder / name, name, RULE)
    return folder


@dataclass
class Shop:
    """A cluster in which r1 serves and r2 can be started, and a process at a time that acts there."""

    folder: Path
    releases_in: Path
    world: World
    summaries: dict[str, Summary]
    manifests: dict[str, Manifest]
    config: RolloutConfig
    process: Callable[[], Rollout]

    def start(self, name: str) -> Action:
        return start(self.config, self.releases_in / name)

    def act(self, *records: Path) -> Action:
        return act(self.config, records)

    @property
    def releases(self) -> Releases:
        return Releases(control=self.manifests["r1"].hash, treatment=self.manifests["r2"].hash)

    @property
    def state(self) -> State:
        return self.world.process().state()

    @property
    def name(self) -> str:
        return label(self.manifests["r2"])

    def decided(self, case: str, percent: int) -> Path:
        """A record of the A/B test."""
        made = make_record(RULE, self.summaries[case], self.releases, NOW, percent=percent)
        assert made.decision.verdict == case
        return write_record(made, self.folder / f"ab-{percent}")

    def canary(self, case: str, percent: int) -> Path:
        """A record of the canary."""
        made = a_canary(case, percent, self.releases)
        assert made.verdict == case
        return write_canary_record(made, self.folder / "canary")


def a_canary(case: str, percent: int, releases: Releases) -> CanaryRecord:
    failed, requests = (400 if case == "ROLLBACK" else 0), (10 if case == "HOLD" else 2_000)
    counts = (Answered(requests=requests, failures={"errors": count}) for count in (0, failed))
    return make_canary_record(*counts, CanaryConfig(), releases, percent=percent, since=NOW, decided_at=NOW)


@pytest.fixture
def shop(tmp_path: Path, sealed: Path, summaries: dict[str, Summary], monkeypatch: pytest.MonkeyPatch) -> Shop:
    return a_shop(tmp_path, sealed, summaries, monkeypatch)


def a_shop(folder: Path, sealed: Path, summaries: dict[str, Summary], monkeypatch: pytest.MonkeyPatch) -> Shop:
    world = a_world("httproute")
    world.in_process = True
    manifests = {name: read_manifest(sealed / name) for name in ("r1", "r2")}
    shop = Shop(folder, sealed, world, summaries, manifests, settings(folder), world.process)
    monkeypatch.setattr("components.deploy.step.open_rollout", lambda config, request=None: shop.process())
    shop.start("r1")
    return shop


def test_a_release_starts_registers_its_rule_and_gets_the_first_step_once(shop: Shop) -> None:
    done = shop.start("r2")
    assert (done.done, done.state.percent) == ("started", 10)
    found = read_registration(Path(shop.config.records), shop.name)
    assert (found.rule, found.releases) == (RULE, shop.releases)
    shop.act(shop.canary("PROMOTE", 10))
    assert shop.start("r2").state.percent == 50
    assert read_registration(Path(shop.config.records), shop.name) == found


def test_a_release_without_a_rule_gets_nobody_where_an_experiment_is_held(shop: Shop) -> None:
    shop.releases_in = shop.folder
    manifest = a_sealed_release(shop.folder / "ruleless", "ruleless")
    with pytest.raises(RecordRefused, match=r"has no rule\.yaml"):
        shop.start("ruleless")
    assert shop.state.percent == 0
    shop.config = replace(shop.config, experiment=False)
    assert shop.start("ruleless").state.shares == {label(shop.manifests["r1"]): 90, label(manifest): 10}


def test_a_release_that_answers_badly_or_was_changed_gets_nobody(shop: Shop) -> None:
    shop.world.broken.add(shop.name)
    with pytest.raises(ReleaseRejected, match="empty slate"):
        shop.start("r2")
    shop.releases_in = shutil.copytree(shop.releases_in, shop.folder / "changed")
    (shop.releases_in / "r1/weights.safetensors").write_text("other")
    with pytest.raises(ReleaseRefused, match=r"weights\.safetensors"):
        shop.start("r1")
    assert shop.world.controllers.traffic() == {label(shop.manifests["r1"]): 100}


def test_a_canary_climbs_the_ramp_and_the_ab_test_alone_promotes(shop: Shop) -> None:
    shop.start("r2")
    first = shop.canary("PROMOTE", 10)
    assert (shop.act(first).done, shop.state.percent) == ("ramped", 50)
    assert (shop.act(first).done, shop.state.percent) == ("nothing", 50)  # the same record moves nothing twice
    assert (shop.act(shop.canary("PROMOTE", 50)).done, shop.state.percent) == ("nothing", 50)
    success = shop.decided("PROMOTE", 50)
    assert shop.act(shop.canary("HOLD", 50), success).done == "promoted"
    assert shop.act(success).done == "nothing"
    assert shop.state.shares == {shop.name: 100}
    assert [outcome.promoted for outcome in shop.state.past] == [True, True]


def test_without_an_experiment_the_canary_goes_all_the_way(shop: Shop) -> None:
    shop.config = replace(shop.config, experiment=False)
    shop.start("r2")
    for percent in (10, 50):
        shop.act(shop.canary("PROMOTE", percent))
    assert shop.state.shares == {shop.name: 100}


def test_a_success_at_a_small_share_takes_one_step(shop: Shop) -> None:
    shop.start("r2")
    assert shop.act(shop.decided("PROMOTE", 10)).state.percent == 50


@pytest.mark.parametrize("other", ["PROMOTE", "HOLD"])
def test_harm_in_either_gate_takes_the_release_back_for_good(shop: Shop, other: str) -> None:
    shop.start("r2")
    late = shop.decided("PROMOTE", 10)
    done = shop.act(shop.canary(other, 10), shop.decided("ROLLBACK", 10))
    assert done.done == "rolled back"
    assert "value per user: worse" in done.reasons[0]
    with pytest.raises(GateFailed, match=r"'rollout' stopped the run: rolled back; A/B test, ROLLBACK: .*worse"):
        action_verdict(done).require()
    assert action_verdict(shop.act(late)).passed  # there is nothing left to be done
    assert shop.state.shares == {label(shop.manifests["r1"]): 100}
    assert shop.world.controllers.traffic() == {label(shop.manifests["r1"]): 100}
    assert "value per user: worse" in shop.state.past[-1].reason


def test_figures_that_cannot_be_trusted_hold_traffic_whatever_the_canary_says(shop: Shop) -> None:
    shop.start("r2")
    done = shop.act(shop.canary("PROMOTE", 10), shop.decided("INVALID", 10))
    assert (done.done, done.state.percent) == ("held", 10)
    assert done.reasons[0].startswith("traffic is held at 10%")
    assert not action_verdict(done).passed
    assert any("sample ratio mismatch" in reason for reason in done.reasons)
    assert shop.act(shop.canary("ROLLBACK", 10), shop.decided("INVALID", 10)).done == "rolled back"


@pytest.mark.parametrize("case", ["HOLD", "no record"])
def test_no_verdict_moves_nothing(shop: Shop, case: str) -> None:
    shop.start("r2")
    nothing = shop.folder / "null"
    nothing.write_text("null")
    done = shop.act(nothing, nothing) if case == "no record" else shop.act(shop.canary("HOLD", 10), nothing)
    assert (done.done, done.state.percent) == ("nothing", 10)


def test_a_record_that_was_changed_or_is_of_another_release_moves_nothing(shop: Shop) -> None:
    shop.start("r2")
    path = shop.decided("HOLD", 10)
    forged = shop.folder / "forged.json"
    forged.write_text(path.read_text().replace('"verdict":"HOLD"', '"verdict":"PROMOTE"'))
    with pytest.raises(RecordRefused, match="was changed after it was written"):
        shop.act(forged)
    wrong = make_record(RULE, shop.summaries["PROMOTE"], replace(shop.releases, treatment="r3"), NOW, percent=10)
    assert shop.act(write_record(wrong, shop.folder / "of another")).done == "nothing"
    assert shop.state.percent == 10


CASES = {"ramp": ("PROMOTE", 10, 50), "promotion": ("PROMOTE", 50, 100), "rollback": ("ROLLBACK", 10, 0)}


@pytest.mark.parametrize("case", CASES)
def test_an_act_that_dies_at_any_call_is_finished_by_the_next_and_moves_once(
    case: str, tmp_path: Path, sealed: Path, summaries: dict[str, Summary], monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict, percent, ends_at = CASES[case]
    for calls in range(200):
        shop = a_shop(tmp_path / str(calls), sealed, summaries, monkeypatch)
        shop.start("r2")
        if percent > 10:
            shop.act(shop.canary("PROMOTE", 10))
        shop.config = replace(shop.config, experiment=False)
        record, lived = shop.canary(verdict, percent), True
        shop.process = lambda shop=shop, calls=calls: shop.world.process(Mortal(shop.world, calls))
        try:
            shop.act(record)
        except Died:
            lived = False
        shop.process = shop.world.process
        between = shop.state.shares.get(shop.name, 0)
        assert between in (percent, ends_at)
        for _ in range(2):
            shop.act(record)
            assert shop.state.shares.get(shop.name, 0) == ends_at
            assert shop.world.controllers.traffic().get(shop.name, 0) == ends_at
        assert shop.state.phase in (Phase.SETTLED, Phase.RAMPING)
        assert sum(outcome.release == shop.name for outcome in shop.state.past) == (case != "ramp")
        assert not shop.world.controllers.wrong
        if lived:
            return
    raise AssertionError("more than 200 calls")


def test_a_start_that_dies_at_any_call_is_finished_by_the_next_and_nobody_is_served_what_is_not_registered(
    tmp_path: Path, sealed: Path, summaries: dict[str, Summary], monkeypatch: pytest.MonkeyPatch
) -> None:
    for calls in range(200):
        shop, lived = a_shop(tmp_path / str(calls), sealed, summaries, monkeypatch), True
        shop.process = lambda shop=shop, calls=calls: shop.world.process(Mortal(shop.world, calls))
        try:
            shop.start("r2")
        except Died:
            lived = False
        shop.process = shop.world.process
        if shop.name in shop.world.controllers.traffic():
            assert read_registration(Path(shop.config.records), shop.name).releases == shop.releases
        for _ in range(2):
            assert shop.start("r2").state.percent == 10
            assert shop.world.controllers.traffic() == {label(shop.manifests["r1"]): 90, shop.name: 10}
        assert not shop.world.controllers.wrong
        if lived:
            return
    raise AssertionError("more than 200 calls")


def ask_over_http(shop: Shop) -> None:
    world = shop.world
    shop.process = lambda: world.process(Cluster(world.server.client(), QUICK, sleep=world.time.sleep))


@pytest.mark.parametrize("fault", ["409", "429", "503", "after", "half"])
def test_an_act_comes_through_what_goes_wrong_often(shop: Shop, fault: str) -> None:
    shop.start("r2")
    shop.act(shop.canary("PROMOTE", 10))
    with shop.world.server.running():
        ask_over_http(shop)
        shop.world.server.faults = often(fault, seed=7)
        shop.act(shop.decided("PROMOTE", 50))
    assert shop.world.controllers.traffic() == {shop.name: 100}
    assert [outcome.promoted for outcome in shop.state.past] == [True, True]
    assert not shop.world.controllers.wrong


def test_an_act_without_an_api_moves_nothing_and_can_be_made_again(shop: Shop) -> None:
    shop.start("r2")
    record = shop.decided("ROLLBACK", 10)
    with shop.world.server.running():
        ask_over_http(shop)
        shop.world.server.faults = lambda call: "503"
        with pytest.raises(ApiError, match="try again later"):
            shop.act(record)
        assert shop.state.percent == 10
        shop.world.server.faults = lambda call: None
        assert shop.act(record).done == "rolled back"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ramp": [5, 5, 100]}, "must rise"),
        ({"ramp": [5, 50]}, "must rise from above 0 to 100"),
        ({"ramp": [5, 75, 100]}, "the ramp has 75%: between 50 and 100 control's users would change arms"),
        ({"storage": "s3://models/nextpage"}, "is one place for all releases"),
        ({"strategy": "local"}, "'local' of the rollout needs folder"),
        ({"strategy": "httproute"}, "'httproute' of the rollout needs hostnames"),
        ({"port": "8080"}, "port is '8080': it must be int"),
        ({"pods": {"replica": 3}}, "which Pods has not"),
        ({"transformer": {"image": "x"}}, "transformer is incomplete"),
        ({"events": None}, "events is None: it must be str"),
    ],
)
def test_a_wrong_setting_is_named(changed: dict[str, Any], message: str) -> None:
    known = {"records": "r", "storage": "s3://m/{hash}", "events": "e"}
    with pytest.raises(ValueError, match=message):
        read_rollout(json.dumps(known | changed))


def test_settings_travel_as_json_and_as_yaml() -> None:
    text = "records: r\nstorage: s3://m/{hash}\nevents: e\nramp: [1, 100]\n"
    found = read_rollout(text + "autoscaling: {prometheus: p, most_replicas: 4}\n")
    assert found.ramp == (1, 100)
    assert found.autoscaling is not None
    assert found.autoscaling.in_flight == 16
    assert read_rollout('{"records": "r", "storage": "s3://m/{hash}", "events": "e"}').ramp == (5, 10, 25, 50, 100)
