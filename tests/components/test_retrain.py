"""Drift starts one retraining run, whatever Kubeflow Pipelines answers, and however often it is said."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kfp_server_api
import pytest
from kfp import dsl

from components.retrain.component import retrain as retrain_component
from components.retrain.runs import KubeflowRuns, NotKnown, NotMade
from components.retrain.step import Outcome, retrain
from tests.components.kubeflow_runs import LATE, LOST, KubeflowPipelines

NOW = datetime.now(UTC)
COOLDOWN = timedelta(days=7)
START = ("POST", "runs")
NAME = f"retrain: drift of store, category ({NOW:%Y-%m-%d})"


def findings(*moved: str, fit: bool = True) -> dict[str, Any]:
    """Columns that moved, the furthest first."""
    columns = [{"column": name, "value": 0.9 - 0.1 * at, "bound": 0.1} for at, name in enumerate(moved)]
    steady = {"column": "hour", "value": 0.01, "bound": 0.1, "drifted": False}
    return {
        "findings": [steady, *({**column, "drifted": True} for column in reversed(columns))],
        "verdicts": [
            {"gate": "drift", "passed": fit and not moved, "reasons": ["…"]},
            {"gate": "monitor", "passed": fit, "reasons": ["the current window holds 3 pages, at least 50 are needed"]},
        ],
    }


DRIFT = findings("store", "category")


@pytest.fixture
def kubeflow() -> Iterator[KubeflowPipelines]:
    made = KubeflowPipelines()
    try:
        yield made
    finally:
        made.close()


def look(kubeflow: KubeflowPipelines, found: dict[str, Any] = DRIFT, **rule: Any) -> Outcome:
    """One call of the step, which waits for nothing."""
    api = KubeflowRuns(kubeflow.endpoint, waits_s=(0.0, 0.0), timeout_s=5.0)
    rule = {"now": NOW, "cooldown": COOLDOWN, "sleep": lambda seconds: None} | rule
    return retrain(api, found, {"recipe": "genrec", "nodes": 2}, **rule)


def test_drift_starts_the_newest_version_with_the_reason_in_its_name(kubeflow: KubeflowPipelines) -> None:
    outcome = look(kubeflow)
    (run,) = kubeflow.runs
    assert (run["run_id"], run["display_name"]) == (outcome.run, NAME)
    assert run["parameters"] == {
        "recipe": "genrec",
        "nodes": 2,
        "pipeline": {"pipeline_id": "p1", "pipeline_version_id": "v2"},
    }
    look(kubeflow, findings(*"abcde"), now=NOW + 2 * COOLDOWN)
    assert len(kubeflow.runs) == 1  # the first is still under way
    run["state"] = "SUCCEEDED"
    look(kubeflow, findings(*"abcde"), now=NOW + 2 * COOLDOWN)
    assert kubeflow.runs[1]["display_name"].startswith("retrain: drift of a, b, c and 2 more (")


@pytest.mark.parametrize(
    ("found", "moving", "said"),
    [
        (findings(), False, "nothing moved past its bound"),
        (findings("store", fit=False), False, "not to be believed: the current window holds 3 pages"),
        (findings(fit=False), False, "not to be believed"),
        (findings("store"), True, "a release is being rolled out"),
    ],
)
def test_quiet_no_data_an_unfit_monitor_and_a_rollout_start_nothing_and_ask_nobody(
    kubeflow: KubeflowPipelines, found: dict[str, Any], moving: bool, said: str
) -> None:
    asked = len(kubeflow.calls)
    outcome = look(kubeflow, found, moving=moving)
    assert said in outcome.said
    assert (outcome.run, kubeflow.runs) == ("", [])
    assert set(kubeflow.calls[asked:]) == {("GET", "healthz"), ("GET", "experiments")}


def test_a_storm_of_drift_starts_one_run_in_a_cool_down_also_where_that_fails(kubeflow: KubeflowPipelines) -> None:
    for _ in range(20):
        look(kubeflow)
    (run,) = kubeflow.runs
    for state in ("FAILED", "CANCELED", "SUCCEEDED"):
        run["state"] = state
        assert "is too new: not before" in look(kubeflow, now=NOW + COOLDOWN - timedelta(hours=1)).said
    assert len(kubeflow.runs) == 1
    assert look(kubeflow, now=NOW + COOLDOWN + timedelta(hours=1)).run == "r1"


def test_runs_that_people_start_do_not_count(kubeflow: KubeflowPipelines) -> None:
    kubeflow.add("tuesday", created=NOW)
    kubeflow.add("no retrain: of mine", created=NOW)
    assert look(kubeflow).run == "r2"


@pytest.mark.parametrize("fault", [500, 502, 503, 504, 409, LOST])
def test_a_start_whose_answer_is_lost_is_never_made_twice(kubeflow: KubeflowPipelines, fault: int | str) -> None:
    kubeflow.faults[START] = [fault]
    if fault == LOST:
        assert look(kubeflow).run == "r0"
    else:  # it was not made, and nobody can tell: the next look finds nothing and starts it
        with pytest.raises(NotKnown, match="the next look starts it"):
            look(kubeflow)
        assert kubeflow.runs == []
        assert kubeflow.calls.count(START) == 1
        assert look(kubeflow).run == "r0"
    look(kubeflow)
    assert len(kubeflow.runs) == 1


def test_a_run_that_comes_late_is_found_by_the_next_look(kubeflow: KubeflowPipelines) -> None:
    kubeflow.faults[START] = [LATE]
    waited: list[float] = []
    with pytest.raises(NotKnown):
        look(kubeflow, sleep=waited.append)
    assert sum(waited) > 60  # it was looked for
    kubeflow.arrive()
    assert "a retraining is under way" in look(kubeflow).said
    assert kubeflow.calls.count(START) == 1


def test_a_run_that_comes_while_it_is_looked_for_is_ours(kubeflow: KubeflowPipelines) -> None:
    kubeflow.faults[START] = [LATE]
    assert look(kubeflow, sleep=lambda seconds: kubeflow.arrive()).run == "r0"
    assert len(kubeflow.runs) == 1


def test_a_busy_api_is_asked_again_and_not_for_ever(kubeflow: KubeflowPipelines) -> None:
    kubeflow.faults[START] = [429, 429]
    assert look(kubeflow).run == "r0"
    kubeflow.runs.clear()
    kubeflow.faults[START] = [429] * 10
    with pytest.raises(NotMade, match="busy"):
        look(kubeflow)
    assert kubeflow.runs == []


@pytest.mark.parametrize("end", ["healthz", "experiments", "runs", "pipelines", "versions"])
def test_what_only_asks_is_asked_again(kubeflow: KubeflowPipelines, end: str) -> None:
    kubeflow.faults[("GET", end)] = [503, 429]
    assert look(kubeflow).run == "r0"
    kubeflow.runs.clear()
    kubeflow.faults[("GET", end)] = [503] * 9
    with pytest.raises(kfp_server_api.ApiException):
        look(kubeflow)
    assert kubeflow.runs == []


def test_looks_at_one_time_leave_one_run(kubeflow: KubeflowPipelines) -> None:
    with ThreadPoolExecutor(6) as pool:
        outcomes = [future.result() for future in [pool.submit(look, kubeflow) for _ in range(6)]]
    look(kubeflow)  # whoever looks last sees them all
    (active,) = kubeflow.active
    assert active is min(kubeflow.runs, key=lambda run: (run["created_at"], run["run_id"]))
    assert [outcome.run for outcome in outcomes if outcome.run].count(active["run_id"]) == 1


def test_where_kubeflow_has_profiles_runs_are_of_the_pods_own_with_its_token(
    kubeflow: KubeflowPipelines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeflow.namespace = "team"
    for name, text in (("TOKEN", "s3cret\n"), ("NAMESPACE", "team\n")):
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(f"components.retrain.runs.{name}", tmp_path / name)
    assert look(kubeflow).run == "r0"
    assert kubeflow.authorization == {"Bearer s3cret"}


def test_a_pipeline_that_is_not_there_is_named(kubeflow: KubeflowPipelines) -> None:
    kubeflow.versions = 0
    with pytest.raises(RuntimeError, match="no pipeline 'nextpage-recommender': install the chart"):
        look(kubeflow)


def test_the_component_gives_the_run_its_log_and_recipe_and_links_to_it(
    tmp_path: Path, kubeflow: KubeflowPipelines
) -> None:
    (tmp_path / "findings").write_text(json.dumps(DRIFT))
    (tmp_path / "recipe").write_text("name: mine\n")
    given: dict[str, Any] = {name: dsl.Artifact(uri=str(tmp_path / name)) for name in ("findings", "recipe")}
    given |= {"release": dsl.Model(uri=str(tmp_path), metadata={"moving": False})}
    given |= {"card": dsl.Markdown(uri=str(tmp_path / "card")), "metrics": dsl.Metrics()}
    given |= {"source": "columns", "source_options": '{"map": "log.yaml"}', "further": {"webhook": "https://h"}}

    retrain_component.python_func(**given)
    assert "store, category drifted; no cluster is here to retrain in" in (tmp_path / "card").read_text()
    assert given["metrics"].metadata["started"] == 0.0

    retrain_component.python_func(**given, endpoint=kubeflow.endpoint)
    (run,) = kubeflow.runs
    assert run["parameters"] | {"pipeline": ...} == {
        "source": "columns",
        "source_options": '{"map": "log.yaml"}',
        "recipe": "name: mine\n",
        "data_engine": "duckdb",
        "rollout": "",
        "webhook": "https://h",
        "pipeline": ...,
    }
    assert "# Retraining: started" in (tmp_path / "card").read_text()
    assert "[The run](#/runs/details/r0)" in (tmp_path / "card").read_text()
    assert (given["metrics"].metadata["started"], given["metrics"].metadata["drifted"]) == (1.0, 2.0)

    given["release"].metadata["moving"] = True
    retrain_component.python_func(**given, endpoint=kubeflow.endpoint)
    assert "a release is being rolled out: it is judged first" in (tmp_path / "card").read_text()
