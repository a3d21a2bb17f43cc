"""The compiled pipeline, as the cluster gets it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from components.images import CONTROL, DATA, TRAIN
from pipelines.compiler import compile_pipelines
from pipelines.machines import STORE_KEYS

STEPS = {
    "configure",
    "ingest",
    "validate",
    "features",
    "tokenize",
    "place",
    "train",
    "align",
    "evaluate",
    "release",
    "optimise",
    "monitor",
    "report",
}
AFTER = {
    "features": "require",
    "tokenize": "require",
    "train": "require-2",
    "release": "require-4",
}
"""Which gate each step waits on, beside what it reads."""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return compiled(tmp_path_factory.mktemp("compiled"), "recommender")


@pytest.fixture(scope="module")
def tasks(spec: dict[str, Any]) -> dict[str, Any]:
    """Of the run proper, which the exit handler waits for."""
    found: dict[str, Any] = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    return found


@pytest.fixture(scope="module")
def on_kubernetes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each executor's pod asks of the cluster: the second document."""
    return on_cluster(tmp_path_factory.mktemp("platform"), "recommender")


def compiled(folder: Path, name: str) -> dict[str, Any]:
    found = {path.stem: path for path in compile_pipelines(folder)}
    assert found[name].stat().st_size < 1 << 20
    loaded: dict[str, Any] = next(yaml.safe_load_all(found[name].read_text()))
    return loaded


def on_cluster(folder: Path, name: str) -> dict[str, Any]:
    (path,) = (path for path in compile_pipelines(folder) if path.stem == name)
    _, platform = yaml.safe_load_all(path.read_text())
    asked: dict[str, Any] = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return asked


def secrets(executor: dict[str, Any]) -> set[tuple[str, str, str]]:
    """(secret, key, variable) of each; none of them may keep the pod from starting."""
    found = set()
    for secret in executor["secretAsEnv"]:
        assert secret["optional"]
        name = secret["secretNameParameter"]["runtimeValue"]["constant"]
        found |= {(name, key["secretKey"], key["envVar"]) for key in secret["keyToEnv"]}
    return found


def test_kfp_accepts_the_yaml(spec: dict[str, Any]) -> None:
    parsed = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    assert parsed.pipeline_info.name == "nextpage-recommender"


@pytest.mark.parametrize(("pipeline", "least"), [("recommender", 10), ("monitoring", 5), ("rollout", 2)])
def test_the_run_form_has_at_most_fifteen_parameters_each_with_a_default_and_a_description(
    tmp_path: Path, pipeline: str, least: int
) -> None:
    parameters = compiled(tmp_path, pipeline)["root"]["inputDefinitions"]["parameters"]
    assert least <= len(parameters) <= 15
    for name, parameter in parameters.items():
        given = (pipeline, name) == ("rollout", "rollout")  # it moves traffic: nobody's default
        assert given or "defaultValue" in parameter or parameter.get("isOptional"), name
        assert len(parameter["description"]) > 10, name


def test_all_steps_are_there_and_each_runs_in_an_image_of_ours(spec: dict[str, Any], tasks: dict[str, Any]) -> None:
    assert {name for name in tasks if not name.startswith(("require", "condition"))} == STEPS
    images = {executor["container"]["image"] for executor in spec["deploymentSpec"]["executors"].values()}
    assert images == {CONTROL, DATA, TRAIN}


def test_every_step_waits_on_the_gate_before_it(tasks: dict[str, Any]) -> None:
    for step, gate in AFTER.items():
        assert gate in tasks[step]["dependentTasks"], step


def test_what_is_evaluated_and_released_is_what_align_hands_on_whatever_its_verdict(tasks: dict[str, Any]) -> None:
    for step in ("evaluate", "release"):
        source = tasks[step]["inputs"]["artifacts"]["candidate"]["taskOutputArtifact"]
        assert source == {"outputArtifactKey": "candidate", "producerTask": "align"}, step
    required = [task["inputs"]["artifacts"]["verdict"] for name, task in tasks.items() if name.startswith("require")]
    assert "align" not in {verdict["taskOutputArtifact"]["producerTask"] for verdict in required}


def test_what_follows_the_release_reads_it_with_its_engines_and_no_step_waits_on_their_verdict(
    spec: dict[str, Any], tasks: dict[str, Any]
) -> None:
    sealed = tasks["optimise"]["inputs"]["artifacts"]["sealed"]["taskOutputArtifact"]
    assert sealed == {"outputArtifactKey": "release", "producerTask": "release"}
    for step in ("monitor", "report"):
        source = tasks[step]["inputs"]["artifacts"]["release"]["taskOutputArtifact"]
        assert source == {"outputArtifactKey": "release", "producerTask": "optimise"}, step
    rollout = next(task for name, task in tasks.items() if name.startswith("condition"))
    assert any("optimise-release" in name for name in rollout["inputs"]["artifacts"])
    required = [task["inputs"]["artifacts"]["verdict"] for name, task in tasks.items() if name.startswith("require")]
    assert "optimise" not in {verdict["taskOutputArtifact"]["producerTask"] for verdict in required}
    assert spec["deploymentSpec"]["executors"]["exec-optimise"]["container"]["image"] == TRAIN


def test_steps_that_learn_run_where_the_form_says_and_keep_checkpoints_on_the_claim(
    spec: dict[str, Any], tasks: dict[str, Any], on_kubernetes: dict[str, Any]
) -> None:
    placed = {name: asked for name, asked in on_kubernetes.items() if "nodeSelector" in asked}
    assert set(placed) == {"exec-tokenize", "exec-train", "exec-align"}
    for name, asked in placed.items():
        accelerator = spec["deploymentSpec"]["executors"][name]["container"]["resources"]["accelerator"]
        assert "place-accelerator'" in accelerator["resourceType"]
        assert "place-accelerators'" in accelerator["resourceCount"]
        selector = asked["nodeSelector"]["nodeSelectorJson"]["taskOutputParameter"]
        (toleration,) = (entry["tolerationJson"]["taskOutputParameter"] for entry in asked["tolerations"])
        assert [selector["outputParameterKey"], toleration["outputParameterKey"]] == ["node_selector", "tolerations"]
        (claim,) = asked["pvcMount"]
        assert (claim["constant"], claim["mountPath"]) == ("nextpage-checkpoints", "/checkpoints")
        inputs = tasks[name.removeprefix("exec-")]["inputs"]["parameters"]
        for parameter in ("accelerator", "node_pool", "nodes", "checkpoints"):
            assert inputs[parameter] == {"componentInputParameter": f"pipelinechannel--{parameter}"}, name
    checkpoints = spec["root"]["inputDefinitions"]["parameters"]["checkpoints"]
    assert checkpoints["defaultValue"] == "/checkpoints"


def test_steps_that_act_are_never_cached(tasks: dict[str, Any]) -> None:
    cached = {name for name, task in tasks.items() if task.get("cachingOptions", {}).get("enableCache")}
    assert cached.isdisjoint({"features", "monitor"})
    assert {"ingest", "tokenize", "train", "align"} <= cached


def test_a_release_is_rolled_out_only_where_configure_found_a_rollout(
    spec: dict[str, Any], tasks: dict[str, Any]
) -> None:
    condition = tasks["condition-2"]
    said = condition["inputs"]["parameters"]["pipelinechannel--configure-Output"]["taskOutputParameter"]
    assert said["producerTask"] == "configure"
    assert (
        spec["components"]["comp-configure"]["outputDefinitions"]["parameters"]["Output"]["parameterType"] == "BOOLEAN"
    )
    assert condition["triggerPolicy"]["condition"].endswith("['pipelinechannel--configure-Output'] == true")
    assert {"optimise", "report"} <= set(condition["dependentTasks"])  # a run that a rollback fails has its report
    assert set(spec["components"]["comp-condition-2"]["dag"]["tasks"]) == {"first-users"}
    tasks = spec["components"]["comp-first-users"]["dag"]["tasks"]
    assert set(tasks) == {"pregate", "require", "deploy", "canary", "act", "require-2"}
    assert (tasks["require"]["dependentTasks"], tasks["deploy"]["dependentTasks"]) == (["pregate"], ["require"])
    assert tasks["canary"]["dependentTasks"] == ["deploy"]
    assert tasks["canary"]["inputs"]["parameters"]["wait"]["runtimeValue"]["constant"] is True
    assert tasks["act"]["dependentTasks"] == ["canary"]
    assert tasks["require-2"]["dependentTasks"] == ["act"]
    assert not any(task["cachingOptions"].get("enableCache") for task in tasks.values())


def test_the_recurring_pipeline_looks_by_both_gates_before_it_acts_and_caches_nothing(tmp_path: Path) -> None:
    rollout = compiled(tmp_path, "rollout")
    parsed = json_format.ParseDict(rollout, pipeline_spec_pb2.PipelineSpec())
    assert parsed.pipeline_info.name == "nextpage-rollout"
    tasks = rollout["root"]["dag"]["tasks"]
    assert {name: task["taskInfo"]["name"] for name, task in tasks.items()} == {
        "canary": "operational canary",
        "gate": "A/B test",
        "act": "move traffic",
        "require": "require no rollback",
    }
    assert tasks["act"]["dependentTasks"] == ["canary", "gate"]
    read = {name: source["taskOutputArtifact"] for name, source in tasks["act"]["inputs"]["artifacts"].items()}
    assert {name: (source["producerTask"], source["outputArtifactKey"]) for name, source in read.items()} == {
        "canary": ("canary", "record"),
        "experiment": ("gate", "record"),
    }
    assert not any(task["cachingOptions"].get("enableCache") for task in tasks.values())
    for parameter in rollout["root"]["inputDefinitions"]["parameters"].values():
        assert len(parameter["description"]) > 10


def test_the_run_is_told_about_however_it_ends(
    spec: dict[str, Any], tasks: dict[str, Any], on_kubernetes: dict[str, Any]
) -> None:
    told = spec["root"]["dag"]["tasks"]["notify"]
    assert told["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert told["dependentTasks"] == ["exit-handler-1"]
    leaving = {name: task for name, task in tasks.items() if name == "release" or name.startswith("require")}
    assert len(leaving) == 6
    for task in (told, *leaving.values()):
        given = task["inputs"]["parameters"]
        assert next(iter(given["notes"].values())).endswith("checkpoints")
        assert given["run"] == {"runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}}  # whole: KFP fills in no part
    for name in ("notify", *leaving):
        (claim,) = on_kubernetes[f"exec-{name}"]["pvcMount"]
        assert claim["constant"] == "nextpage-checkpoints", name
    assert secrets(on_kubernetes["exec-notify"]) == {("nextpage-webhook", "url", "NEXTPAGE_WEBHOOK")}


def test_the_engine_of_the_data_is_checked_before_it_is_used(tasks: dict[str, Any]) -> None:
    for step, parameter in {"configure": "data_engine", "validate": "engine", "features": "engine"}.items():
        given = tasks[step]["inputs"]["parameters"][parameter]
        assert given == {"componentInputParameter": "pipelinechannel--data_engine"}, step
    assert "configure" in tasks["validate"]["dependentTasks"]
    assert "validate" in tasks["features"]["dependentTasks"]


@pytest.mark.parametrize("pipeline", ["recommender", "rollout"])
def test_steps_of_a_rollout_keep_records_on_the_claim_and_may_read_events_in_redis(
    tmp_path: Path, pipeline: str
) -> None:
    executors = on_cluster(tmp_path, pipeline)
    acting = {f"exec-{name}" for name in ("deploy", "canary", "gate", "act")} & set(executors)
    assert len(acting) == 3
    for name in acting:
        (claim,) = executors[name]["pvcMount"]
        assert (claim["constant"], claim["mountPath"]) == ("nextpage-records", "/records"), name
        assert secrets(executors[name]) == {
            ("nextpage-redis", "password", "NEXTPAGE_REDIS_PASSWORD"),
            *(("nextpage-store", key, key) for key in STORE_KEYS),
        }, name


def test_the_feature_store_of_a_cluster_is_named_by_a_secret(on_kubernetes: dict[str, Any]) -> None:
    assert secrets(on_kubernetes["exec-features"]) == {
        ("nextpage-feast", "registry", "NEXTPAGE_FEAST_REGISTRY"),
        ("nextpage-feast", "redis", "NEXTPAGE_FEAST_REDIS"),
    }


def test_the_pipeline_that_watches_holds_what_serves_against_the_newest_log_and_caches_no_look(tmp_path: Path) -> None:
    watching = compiled(tmp_path, "monitoring")
    assert json_format.ParseDict(watching, pipeline_spec_pb2.PipelineSpec()).pipeline_info.name == "nextpage-monitoring"
    root = watching["root"]["dag"]["tasks"]
    condition = root["condition-1"]["triggerPolicy"]["condition"]
    assert condition.endswith("['pipelinechannel--served-Output'] == true")
    tasks = watching["components"]["comp-condition-1"]["dag"]["tasks"]
    assert not any(task.get("cachingOptions", {}).get("enableCache") for task in {**root, **tasks}.values())
    read = tasks["monitor"]["inputs"]["artifacts"]
    assert {name: source.get("componentInputArtifact", "") for name, source in read.items() if name != "clean"} == {
        "recipe": "pipelinechannel--served-recipe",
        "release": "pipelinechannel--served-release",
        "tokenizer": "pipelinechannel--served-release",
    }
    assert "require" in tasks["monitor"]["dependentTasks"]
    assert tasks["retrain"]["dependentTasks"] == ["monitor"]


def test_the_step_that_retrains_asks_for_a_token_of_kubeflow_pipelines(tmp_path: Path) -> None:
    labels = on_cluster(tmp_path, "monitoring")["exec-retrain"]["podMetadata"]["labels"]
    assert labels == {"access-ml-pipeline": "true"}


WITHOUT_CARD = {"require": "the step that judged has card and metrics, and of a step that fails KFP keeps neither"}


@pytest.mark.parametrize("pipeline", ["recommender", "rollout", "monitoring"])
def test_every_step_has_a_name_for_people_a_card_and_metrics(tmp_path: Path, pipeline: str) -> None:
    spec = compiled(tmp_path, pipeline)
    dags = [spec["root"]["dag"], *(one["dag"] for one in spec["components"].values() if "dag" in one)]
    steps = [(name, task) for dag in dags for name, task in dag["tasks"].items()]
    assert len(steps) >= 4
    for name, task in steps:
        assert task["taskInfo"]["name"] != name, name
        component = spec["components"][task["componentRef"]["name"]]
        kind = name.rstrip("-0123456789")
        if "dag" in component or kind in WITHOUT_CARD:
            continue
        outputs = component["outputDefinitions"]["artifacts"].values()
        kinds = {output["artifactType"]["schemaTitle"] for output in outputs}
        assert kinds & {"system.Markdown", "system.HTML"}, f"{name} has no card"
        assert "system.Metrics" in kinds, f"{name} has no metrics"


def test_compiling_twice_gives_the_same_file(tmp_path: Path) -> None:
    first, second = (compile_pipelines(tmp_path / name)[0].read_text() for name in "ab")
    assert first == second
