"""The demo's A/B tests end to end: real Envoy, real gates, servers without a model."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from components.report.experiments import add_experiments
from nextpage.experiments.canary import CanaryConfig
from nextpage.experiments.record import read_record, reproduce
from nextpage.experiments.replay import Page
from nextpage.release import read_manifest
from nextpage.tokenizers.semantic_ids import SemanticIds
from pipelines import experiment, planted
from pipelines.experiment import ACTS, ExperimentConfig, run_experiments
from pipelines.local import Run
from pipelines.summary import add_verdicts
from pipelines.traffic import stream
from serving.attribution import attribute
from serving.rollout.processes import Processes
from tests.held_out import write_evaluation
from tests.pipelines import shop
from tests.synthetic import write_dataset

AB, BAD, RATIO = ACTS
QUICK = ExperimentConfig(
    acts=(
        replace(AB, looks=(2, 14, 21, 28)),
        replace(BAD, ramp=(50, 100), looks=(4, 7, 14, 28)),
        replace(RATIO, looks=(4, 7, 14, 28), lost=0.5),
    ),
    requests=1_000,
    visits=1,
    load=0.35,
    measured=150,
    flush_s=0.1,
    slow_ms=60_000.0,  # a machine that is busy with other tests is no fault of a release
    server=shop.COMMAND,
    canary=CanaryConfig(requests=5),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What a finished run leaves, as far as the A/B tests read it."""
    made = Run(folder=tmp_path_factory.mktemp("runs") / "Tiny run")
    dataset = write_dataset(made.artifacts / "one" / "validate" / "clean", users=400, items=120, pages=8)
    write_evaluation(dataset, made.folder / "features" / "evaluation.parquet", first_page=4)
    shop.write_release(made.folder / "release", pq.read_table(dataset.items))
    return made


def running(run: Run) -> list[str]:
    return Processes(run.folder / "experiment" / "rollout" / "processes").names()


def test_what_was_started_is_ended_when_somebody_interrupts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def interrupted(*_: object, **__: object) -> None:
        processes = Processes(run.folder / "experiment" / "rollout" / "processes")
        seen.extend(name for name in processes.names() if (one := processes.find(name)) and processes.alive(one))
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "judge_canary", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_experiments(run, replace(QUICK, acts=(replace(AB, looks=(1,)),)))
    assert len(seen) == 3  # Envoy and two servers
    assert running(run) == []


@pytest.fixture(scope="module")
def result(run: Run) -> dict[str, Any]:
    return run_experiments(run, QUICK)


def test_the_better_release_wins_and_the_planted_ones_are_found(result: dict[str, Any]) -> None:
    assert {name: found["verdict"] for name, found in result["verdicts"].items()} == {
        "ab": "PROMOTE",
        "ab_bad_release": "ROLLBACK",
        "ab_ratio_mismatch": "INVALID",
    }, json.dumps(result, indent=1)
    assert all(found["passed"] for found in result["verdicts"].values())
    ab, bad, ratio = result["verdicts"].values()
    assert [(look["percent"], look["done"]) for look in ab["looks"]][:2] == [(10, "ramped"), (50, "promoted")]
    assert bad["looks"][-1]["done"] == "rolled back"
    assert ratio["looks"][-1]["done"] == "held"
    assert "sample ratio mismatch" in ratio["reasons"][0]


def test_every_request_is_answered_and_logged_while_releases_come_and_go(run: Run, result: dict[str, Any]) -> None:
    replayed = result["replay"]
    assert replayed["sent"] >= 1_000
    assert not replayed["failed"]
    assert not replayed["feedback_failed"]
    assert running(run) == []
    logged = attribute(run.folder / "experiment" / "events", window=experiment.timedelta(minutes=1))
    smoke_tests, measured = 4, QUICK.measured
    assert len(logged.requests) == replayed["sent"] + measured + smoke_tests
    assert logged.unmatched == logged.late == 0


def test_each_look_has_its_card_and_a_record_that_reproduces_the_verdict(run: Run, result: dict[str, Any]) -> None:
    for found in result["verdicts"].values():
        for look in found["looks"]:
            card = run.folder / look["card"]
            assert look["verdict"] in card.read_text()
            assert reproduce(read_record(card.with_suffix(".json"))).verdict == look["verdict"]


def test_summary_and_report_tell_of_the_tests_and_of_the_newest_only(run: Run, result: dict[str, Any]) -> None:
    before = {"verdicts": {"recall": {"passed": True}}, "seconds": {"train": 2.0, "total": 2.0}}
    (run.folder / "summary.json").write_text(json.dumps(before))
    page = '<main><section id="experiments"><h2>A/B tests</h2><p>None</p></section><section id="card"></section></main>'
    (run.folder / "report.html").write_text(page)
    for _ in range(2):
        add_verdicts(run.folder, result)
        add_experiments(run.folder / "report.html", result)
    summary = json.loads((run.folder / "summary.json").read_text())
    assert set(summary["verdicts"]) == {"recall", *result["verdicts"]}
    assert summary["verdicts"]["ab_bad_release"]["passed"]
    assert summary["seconds"]["total"] == pytest.approx(2.0 + result["seconds"])
    shown = (run.folder / "report.html").read_text()
    assert shown.count('<section id="experiments">') == 1
    assert '<section id="card">' in shown
    for found in result["verdicts"].values():
        assert f'href="{found["card"]}"' in shown


def test_variants_change_what_they_say_and_nothing_else(run: Run, tmp_path: Path) -> None:
    release = run.folder / "release"
    plain, bad, same = (
        planted.variant(release, tmp_path, name=change.__name__.replace("_", "-"), change=change)
        for change in (planted.without_prior, planted.shuffled, planted.unchanged)
    )
    files = {folder.name: read_manifest(folder).files for folder in (release, plain, bad, same)}
    changed = {
        name: {path for path in found if found[path] != files["release"].get(path)} for name, found in files.items()
    }
    assert changed["unchanged"] == {"rule.yaml"}
    assert changed["without-prior"] == {"rule.yaml", "recipe.yaml"}
    assert changed["shuffled"] == {"rule.yaml", "recipe.yaml", "semantic_ids.parquet", "items.parquet"}
    ids, items = SemanticIds.read(bad / "semantic_ids.parquet"), pq.read_table(bad / "items.parquet")
    assert ids.item_ids.tolist() == items["item_id"].to_pylist()
    assert sorted(ids.item_ids) == sorted(SemanticIds.read(release / "semantic_ids.parquet").item_ids)
    assert "metrics.json" not in files["unchanged"]


def test_the_stream_visits_each_days_pages_again_and_begins_anew_after_the_last() -> None:
    fields = {"user_id": "u", "as_of": 0, "items": [], "behaviours": [], "pages": [], "times": [], "wanted": {}}
    pages = [Page(request_id=name, **fields) for name in "abcde"]
    found = list(itertools.islice(stream(pages, days=3, visits=2, rate=4.0), 14))
    assert "".join(visit.page.request_id for visit in found) == "ababcdcdeeabab"
    assert len({visit.request_id for visit in found}) == 14
    assert [visit.due_s for visit in found[:4]] == [0.0, 0.25, 0.5, 0.75]
