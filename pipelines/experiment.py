"""A/B tests on one machine, on what real households did: three releases are rolled out, one after another, before users
who are replayed from the held-out weeks of a run.

    ab                  the run's release, against itself without its repeat prior: there is an effect, so it should win
    ab_bad_release      the same with semantic IDs shuffled: it should be rolled back
    ab_ratio_mismatch   the same under another name, but the edge loses a part of treatment's users: the figures should
                        not be believed

KServe's servers behind Envoy answer, and the traffic never stops while gates look and releases move. What decides and
acts is what does so in a cluster: `components.gate`, `components.deploy`. Only the users are simulated, and their days
last seconds: as long as it takes to replay a day's pages.
"""

import contextlib
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from components.deploy.config import RolloutConfig
from components.deploy.registration import read_registration
from components.deploy.step import Action, act, start
from components.deploy.traffic import open_rollout
from components.gate.card import write_canary, write_look
from components.gate.step import judge, judge_canary
from nextpage.experiments.canary import CanaryConfig
from nextpage.experiments.gate import INVALID, PROMOTE, ROLLBACK
from nextpage.experiments.replay import Page, UserConfig, read_pages, read_shoppers
from pipelines import planted
from pipelines.local import Run
from pipelines.traffic import Edge, Traffic, measured_rate, stream
from serving.replay import ReplayConfig
from serving.rollout import share
from serving.rollout.local import Local
from serving.rollout.processes import free_port

SERVER = (
    "{python} -m serving --model_name nextpage --release {folder} --http_port {port} --enable_grpc false "
    "--engine torch "  # arms differ in one thing: planted releases carry no engines
    "--target_ms 0"  # and no visit is refused: the replay has no more in flight than it is told
)
MARGIN_S = 0.5  # for the sink's write, after the event log's longest wait


@dataclass(frozen=True, kw_only=True)
class Act:
    """The rollout of one release. `looks`: days after which both gates look, until one decides; `expected`: the verdict
    that a sound platform comes to; `lost`: as of the edge."""

    name: str
    suffix: str  # of the release's name
    change: planted.Change
    ramp: tuple[int, ...]
    looks: tuple[int, ...]
    expected: str
    lost: float = 0.0


ACTS = (
    Act(
        name="ab",
        suffix="",
        change=planted.unchanged,
        ramp=(10, 50, 100),
        looks=(3, 7, 14, 21, 28),
        expected=PROMOTE,
    ),
    Act(
        name="ab_bad_release",
        suffix="-shuffled",
        change=planted.shuffled,
        ramp=(10, 50, 100),
        looks=(3, 4, 5, 6, 7, 14, 21, 28),
        expected=ROLLBACK,
    ),
    Act(
        name="ab_ratio_mismatch",
        suffix="-again",
        change=planted.unchanged,
        ramp=(50, 100),
        looks=(2, 3, 4, 5, 6, 7, 14, 21, 28),
        expected=INVALID,
        lost=0.3,
    ),
)
"""Looks and ramps, as the rule and its margins (`planted.RULE`), were fixed before the outcome of any was looked at."""


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """`requests`: that are replayed at least. `visits` to every page, each with eyes of its own. `rate`: requests a
    second; 0: `load` of what one server is measured to answer. `slow_ms`: of an answer. `longest_s`: of all traffic."""

    acts: tuple[Act, ...] = ACTS
    requests: int = 20_000
    days: int = 28
    visits: int = 2
    rate: float = 0.0
    load: float = 0.95
    measured: int = 400
    history_events: int = 128
    slow_ms: float = 1000.0
    flush_s: float = 0.5
    longest_s: float = 900.0
    server: str = SERVER
    canary: CanaryConfig = field(default_factory=lambda: CanaryConfig(requests=100))
    users: UserConfig = field(default_factory=UserConfig)


def run_experiments(run: Run, config: ExperimentConfig) -> dict[str, Any]:
    """Roll out the run's release and the planted ones. Cards and records go to its `experiment/`, in place of an
    earlier one's, and `result.json`: `verdicts` by act, what the `replay` came to, `seconds`.

    Whatever it starts it ends. Raises what a rollout or a gate raises, and RuntimeError where the traffic ends before
    a verdict.
    """
    began, folder = time.monotonic(), run.folder.absolute() / "experiment"
    Local(folder=folder / "rollout", port=0).close()  # what a run that was killed may have left
    shutil.rmtree(folder, ignore_errors=True)
    rollout = _rollout(folder, config)
    log, evaluation = run.output("validate", "clean") / "interactions.parquet", run.folder / "features"
    pages = list(read_pages(evaluation / "evaluation.parquet", log, config.history_events))
    folder.mkdir(parents=True)
    pq.write_table(read_shoppers(log, pages[0].as_of), rollout.users)
    with _ended_by_signals(), _one_thread_a_server():
        try:
            result = _performed(run, pages, rollout, config)
        finally:
            Local(folder=folder / "rollout", port=0).close()
    result["seconds"] = round(time.monotonic() - began, 1)
    (folder / "result.json").write_text(json.dumps(result, indent=1))
    return result


def _performed(run: Run, pages: Sequence[Page], rollout: RolloutConfig, config: ExperimentConfig) -> dict[str, Any]:
    folder, release = Path(rollout.folder).parent, run.folder / "release"
    control = planted.variant(
        release, folder / "releases", name=f"{run.folder.name}-without-prior", change=planted.without_prior
    )
    start(rollout, control)
    url, clients = f"http://127.0.0.1:{rollout.port}", ReplayConfig(longest_s=config.longest_s)
    rate = config.rate or config.load * measured_rate(pages, url, clients, config.measured)
    rollout = replace(rollout, day_s=len(pages) * config.visits / config.days / rate)
    print(f"{rate:.0f} requests a second: a day takes {rollout.day_s:.1f} s", flush=True)
    visits = stream(pages, days=config.days, visits=config.visits, rate=rate)
    with Traffic(visits, url, Edge(), config.users, clients) as traffic:
        verdicts = {}
        for one in config.acts:
            candidate = planted.variant(
                release, folder / "releases", name=run.folder.name + one.suffix, change=one.change
            )
            verdicts[one.name] = _verdict(one, candidate, rollout, traffic, config)
        while traffic.done.sent < config.requests:
            traffic.wait_until(datetime.now(UTC) + timedelta(seconds=0.2))
    return {"verdicts": verdicts, "replay": vars(traffic.done) | {"rate": rate, "day_s": rollout.day_s}}


def _verdict(
    one: Act, candidate: Path, rollout: RolloutConfig, traffic: Traffic, config: ExperimentConfig
) -> dict[str, Any]:
    """Roll a release out until a gate decides: its verdict, and whether it is the expected one."""
    rollout, cards = replace(rollout, ramp=one.ramp), Path(rollout.folder).parent / "cards" / one.name
    action = start(rollout, candidate)
    assert action.state.candidate is not None
    began = read_registration(Path(rollout.records), action.state.candidate.name).started
    print(f"{one.name}: {action.reasons[0]}", flush=True)
    looks: list[dict[str, Any]] = []
    for day in one.looks:
        traffic.edge.experiment, traffic.edge.lost = share.experiment(action.state), one.lost
        traffic.wait_until(began + timedelta(seconds=day * rollout.day_s + config.flush_s + MARGIN_S))
        percent, (verdict, reasons, action) = action.state.percent, _looked(day, rollout, cards / f"day-{day:02d}")
        card = cards / f"day-{day:02d}" / "experiment.html"
        looks.append(
            {"day": day, "percent": percent, "verdict": verdict, "done": action.done, "reasons": list(reasons)}
            | {"card": str(card.relative_to(cards.parents[2]))}
        )
        print(f"  day {day}, at {percent}%: {verdict}, {action.done}", flush=True)
        if action.state.candidate is None or verdict == INVALID:
            break
    state = action.state
    if state.candidate is not None:  # undecided or invalid, and the next release waits
        state = open_rollout(rollout).roll_back(state.candidate.name, f"{one.name} is over")
    traffic.edge.experiment, traffic.edge.lost = share.experiment(state), 0.0
    last = {name: looks[-1][name] for name in ("verdict", "reasons", "card")}
    return {"passed": last["verdict"] == one.expected, **last, "expected": one.expected, "looks": looks}


def _looked(day: int, rollout: RolloutConfig, folder: Path) -> tuple[str, tuple[str, ...], Action]:
    """Both gates at the end of a day, and what was done for it."""
    folder.mkdir(parents=True)
    state = open_rollout(rollout).state()
    canary, look = judge_canary(rollout, state), judge(rollout, state, day=day)
    assert canary is not None
    assert look is not None
    records = [folder / "canary.json", folder / "experiment.json"]
    write_canary(canary, record=records[0], verdict=folder / "canary.verdict.json", card=folder / "canary.md")
    write_look(
        look,
        record=records[1],
        verdict=folder / "experiment.verdict.json",
        card=folder / "experiment.md",
        page=folder / "experiment.html",
    )
    broken = canary.verdict == ROLLBACK and look.decision.verdict != ROLLBACK
    said = (canary.verdict, canary.reasons) if broken else (look.decision.verdict, look.decision.reasons)
    return *said, act(rollout, records)


def _rollout(folder: Path, config: ExperimentConfig) -> RolloutConfig:
    events = folder / "events"
    return RolloutConfig(
        strategy="local",
        records=str(folder / "records"),
        storage=f"{folder.as_uri()}/storage/{{name}}",
        events=str(events),
        users=str(folder / "users.parquet"),
        canary=config.canary,
        slow_ms=config.slow_ms,
        attribution_window_s=60.0,
        ready_s=300.0,
        linger_s=0.2,
        folder=str(folder / "rollout"),
        port=free_port(),
        command=(*config.server.split(), "--events", str(events), "--events_flush_s", str(config.flush_s)),
    )


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that what was started is ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _one_thread_a_server() -> Iterator[None]:
    """Two servers share the machine: each computes with half of its cores, unless told otherwise."""
    name = "OMP_NUM_THREADS"
    told = os.environ.get(name)
    os.environ[name] = told or str(max(1, (os.cpu_count() or 2) // 2))
    try:
        yield
    finally:
        os.environ.pop(name) if told is None else None
