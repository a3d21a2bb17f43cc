"""The quick size of the demo, end to end: real data in, recommendations out, by the commands a user types."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from components.align.step import WEIGHTS
from nextpage.interactions.log import Dataset
from nextpage.release import read_manifest

NEXTPAGE = str(Path(sys.executable).with_name("nextpage"))
QUICK = (
    "training.steps=40",
    "tokenizer.quantiser.codes=64",
    "reward_model.loop.steps=8",
    "reward_model.batch_pages=16",
    "reward_model.minimum_auc=0.5",
    "alignment.loop.steps=4",
    "alignment.prompts=4",
    "alignment.watched=20",
    "alignment.gate.requests=40",
    "evaluation.requests=150",
    "evaluation.gate.beat=[]",  # forty steps beat nobody
    "evaluation.gate.max_invalid_share=1.0",
    "optimise.requests=40",
    "optimise.repeats=2",
    "optimise.recall_margin=1.0",  # forty requests show no margin
    "monitoring.predicted_requests=100",
    "monitoring.input_bound=0.3",  # two hundred households differ by chance
)
DATA = json.dumps({"households": 200, "minimum_orders": 150})
STEPS = {
    *("ingest", "validate", "features", "tokenize", "train", "align"),
    *("evaluate", "release", "optimise", "monitor", "report"),
}


def _nextpage(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([NEXTPAGE, *arguments], capture_output=True, text=True, check=False)


def _run(runs: Path, name: str, *settings: str) -> subprocess.CompletedProcess[str]:
    options = [word for setting in (*QUICK, *settings) for word in ("--set", setting)]
    return _nextpage("run", "--name", name, "--runs", str(runs), "--data-options", DATA, *options)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def finished(runs: Path) -> subprocess.CompletedProcess[str]:
    return _run(runs, "quick")


@pytest.fixture(scope="module")
def summary(runs: Path, finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-1000:]
    loaded: dict[str, Any] = json.loads((runs / "quick" / "summary.json").read_text())
    return loaded


def test_the_run_ends_with_named_recommendations_and_the_command_that_serves_them(
    finished: subprocess.CompletedProcess[str], summary: dict[str, Any], runs: Path
) -> None:
    shown = finished.stdout
    texts = set(pq.read_table(runs / "quick" / "release" / "items.parquet")["text"].to_pylist())
    named = [line for line in shown.splitlines() if line[6:] in texts]
    assert [int(line.split()[0]) for line in named] == list(range(1, 11))
    assert f"nextpage serve {runs}/quick/release" in shown
    assert f"{runs}/quick/report.html" in shown
    assert "executor_input" not in shown  # lines for a person, no dumps


def test_the_summary_has_cost_figures_verdicts_and_release(summary: dict[str, Any], runs: Path) -> None:
    assert set(summary["seconds"]) == STEPS | {"total"}
    assert summary["seconds"]["total"] == pytest.approx(sum(summary["seconds"][step] for step in STEPS), abs=0.1)
    assert set(summary["peak_memory_mb"]) == STEPS | {"total"}
    for figures in (summary["metrics"]["model"], *summary["metrics"]["baselines"].values()):
        assert 0 <= figures["HR@10"] <= figures["HR@50"] <= 1
    assert len(summary["metrics"]["baselines"]) == 8
    gates = {"data quality", "tokenizer health", "alignment", "recall", "invalid items", "engines", "monitor", "drift"}
    assert set(summary["verdicts"]) == gates
    assert summary["verdicts"]["data quality"]["passed"]
    manifest = json.loads((Path(summary["release"]["path"]) / "manifest.json").read_text())
    assert summary["release"]["hash"] == manifest["hash"]
    engines = {path.name.partition(".")[0] for path in Path(summary["release"]["path"]).glob("engines/*")}
    assert engines == {"onnx", "onnx-int8"}


def test_the_report_loads_nothing_and_shows_the_release(summary: dict[str, Any], runs: Path) -> None:
    page = (runs / "quick" / "report.html").read_text()
    assert summary["release"]["hash"][:12] in page
    assert "<script" not in page
    assert 'src="http' not in page
    assert page.count("<svg") >= 5


def test_the_release_has_the_aligned_weights_where_alignment_passed_and_the_bases_where_not(
    summary: dict[str, Any], runs: Path
) -> None:
    (tasks,) = (runs / "quick" / "artifacts").iterdir()
    release, outcome = runs / "quick" / "release", json.loads((tasks / "align" / "outcome").read_text())
    assert outcome["trained"]  # else the weights below say nothing
    assert json.loads((release / "alignment.json").read_text()) == outcome
    assert summary["verdicts"]["alignment"]["passed"] == outcome["verdict"]["passed"]
    base, released = (read_manifest(folder).files[WEIGHTS] for folder in (tasks / "train" / "candidate", release))
    assert (released != base) == summary["verdicts"]["alignment"]["passed"]


def _some_user(runs: Path) -> str:
    return str(pq.read_table(runs / "quick" / "features" / "evaluation.parquet")["user_id"][0])


def test_recommend_answers_a_known_user_in_json(summary: dict[str, Any], runs: Path) -> None:
    release = str(runs / "quick" / "release")
    answer = _nextpage("recommend", release, "--user", _some_user(runs), "--k", "7", "--json")
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    items = [item["item_id"] for item in found["items"]]
    assert len(items) == len(set(items)) == 7
    assert not found["degraded"]
    unknown = _nextpage("recommend", release, "--user", "nobody", "--json")
    assert unknown.returncode != 0
    assert "'nobody' is not in the feature store" in unknown.stderr


@pytest.fixture(scope="module")
def server(summary: dict[str, Any], runs: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [NEXTPAGE, "serve", str(runs / "quick" / "release"), "--port", str(port)]
    process = subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, "the server ended before it was ready"
            try:
                urllib.request.urlopen(f"{address}/v2/health/ready", timeout=2)
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def test_the_server_gives_a_user_of_the_feature_store_a_slate_of_this_release(
    server: str, summary: dict[str, Any], runs: Path
) -> None:
    body = json.dumps({"instances": [{"user_id": _some_user(runs), "k": 5}]}).encode()
    request = urllib.request.Request(f"{server}/v1/models/nextpage:predict", body, {"Content-Type": "application/json"})
    (slate,) = json.loads(urllib.request.urlopen(request, timeout=30).read())["predictions"]
    assert len({item["item_id"] for item in slate["items"]}) == 5
    assert slate["release"]["hash"] == summary["release"]["hash"]
    assert not slate["degraded"]


def test_a_gate_that_fails_stops_what_follows_and_says_why(runs: Path) -> None:
    stopped = _run(runs, "stopped", "validation.min_users=100000")
    assert stopped.returncode == 1
    assert "100,000" in stopped.stdout or "100000" in stopped.stdout
    assert "data quality" in stopped.stdout
    summary = json.loads((runs / "stopped" / "summary.json").read_text())
    assert not summary["verdicts"]["data quality"]["passed"]
    assert set(summary["seconds"]) == {"ingest", "validate", "total"}
    assert summary["release"] == {}


def test_the_run_lost_no_event(summary: dict[str, Any], runs: Path) -> None:
    (tasks,) = (runs / "quick" / "artifacts").iterdir()
    raw, clean = (Dataset(folder=tasks / step / name) for step, name in (("ingest", "raw"), ("validate", "clean")))
    quarantined = pq.read_metadata(tasks / "validate" / "quarantine").num_rows
    kept = sum(pq.read_metadata(path).num_rows for path in (clean.interactions, clean.items, clean.users))
    came = sum(pq.read_metadata(path).num_rows for path in (raw.interactions, raw.items, raw.users))
    assert kept + quarantined == came
