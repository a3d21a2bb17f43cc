"""Values that are wrong are refused before anything is installed, with the value's place and what to do."""

from pathlib import Path
from typing import Any

import pytest

from tests.charts.cases import CONTROL, DIGESTS, TREATMENT, TWO_ARMS
from tests.charts.rendering import Case, Refused, changed, render

NOT_A_DIGEST = "sha256:12ab"

# A value, and what Helm 4 says that it may be.
BY_SCHEMA: list[tuple[str, Any, str]] = [
    ("surprise", 1, "additional properties 'surprise' not allowed"),
    ("images.control.name", "x", "additional properties 'name' not allowed"),
    ("serving.replica", 2, "additional properties 'replica' not allowed"),
    ("pipelines.recurringRuns.nightly", {}, "additional properties 'nightly'"),
    ("fullnameOverride", "Shop", "does not match pattern"),
    ("fullnameOverride", "a" * 41, "maxLength: got 41, want 40"),
    ("images.registry", "https://ghcr.io/nextpage", "does not match pattern"),
    ("images.pullPolicy", "Sometimes", "'Always', 'IfNotPresent', 'Never'"),
    ("images.pullSecrets", "pull", "got string, want array"),
    ("images.serve.digest", NOT_A_DIGEST, "sha256:[0-9a-f]{64}"),
    ("pipelines.install", "crd", "'auto', 'resources', 'upload', 'none'"),
    ("pipelines.endpoint", "ml-pipeline:8888", "^https?://"),
    ("pipelines.multiUser", "yes", "got string, want boolean"),
    ("pipelines.runner", "", "does not match pattern"),
    ("pipelines.records.size", "50", "(Mi|Gi|Ti)"),
    ("pipelines.records.accessModes", ["ReadWriteMany"], "additional properties 'accessModes'"),
    ("pipelines.recurringRuns.gate.cron", "*/30 * * * *", "does not match pattern"),
    ("pipelines.recurringRuns.monitoring.enabled", "maybe", "'auto', true, false"),
    ("training.runtime", "true", "'auto', true, false"),
    ("training.nodes", 0, "minimum: got 0, want 1"),
    ("training.gpus", -1, "minimum: got -1, want 0"),
    ("training.memory", "16GB", "(Mi|Gi)"),
    ("training.cpu", 4, "got number, want string"),
    ("training.checkpoints.accessMode", "ReadOnlyMany", "'ReadWriteMany', 'ReadWriteOnce'"),
    ("training.checkpoints.size", "0Gi", "does not match pattern"),
    ("training.tolerations", [{"keys": "a"}], "additional properties 'keys'"),
    ("featureStore.enabled", 1, "'auto', true, false"),
    ("featureStore.mode", "crd", "'auto', 'operator', 'deployment'"),
    ("featureStore.replicas", 0, "minimum: got 0, want 1"),
    ("featureStore.operator.repoPath", "feature_repo", "does not match pattern"),
    ("redis.address", "redis.example.com", "does not match pattern"),
    ("redis.storage", "20GB", "(Mi|Gi|Ti)"),
    ("redis.secret", "My Secret", "does not match pattern"),
    ("serving.owner", "both", "'rollout', 'chart'"),
    ("serving.service", "9lives", "does not match pattern"),
    ("serving.hostnames", [], "minItems: got 0, want 1"),
    ("serving.hostnames", ["http://shop"], "does not match pattern"),
    ("serving.timeout", "5", "(ms|s|m)"),
    ("serving.targetMilliseconds", "1s", "got string, want integer"),
    ("serving.treatmentShare", 250, "maximum: got 250, want 100"),
    ("serving.treatmentShare", 0.5, "want integer"),
    ("serving.releases.control.name", "R42", "does not match pattern"),
    ("serving.releases.control.storageUri", "models/r42", "does not match pattern"),
    ("serving.testRequest", {"k": 3}, "got object, want string"),
    ("objectStore.ports", [0], "minimum: got 0, want 1"),
    ("objectStore.identityAnnotations", {"a": 1}, "got number, want string"),
    ("monitoring.interval", "half a minute", "does not match pattern"),
    ("monitoring.slowestSeconds", 0, "exclusiveMinimum: got 0, want 0"),
    ("networkPolicy.gatewayNamespaces", [], "minItems: got 0, want 1"),
    ("networkPolicy.apiServerPorts", [], "minItems: got 0, want 1"),
]


@pytest.mark.parametrize(("path", "value", "said"), BY_SCHEMA)
def test_the_schema_names_the_place_and_what_it_may_be(chart: Path, path: str, value: Any, said: str) -> None:
    place = "/" + path.replace(".", "/")
    if said.startswith("additional properties"):
        place = place.rpartition("/")[0]
    with pytest.raises(Refused) as refused:
        render(chart, Case(name="", values=changed({}, path, value)))
    assert f"at '{place}" in str(refused.value)
    assert said in str(refused.value)


CHART_OWNS = {"serving": {"owner": "chart", "releases": {"control": CONTROL}}}


def arm(**changes: Any) -> dict[str, Any]:
    return {"serving": {"owner": "chart", "releases": {"control": {**CONTROL, **changes}}}}


# Values that are fine one by one, and words of the refusal: what is wrong, and the way out.
TOGETHER: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "releases of the rollout": (
        {"serving": {"releases": {"control": CONTROL}}},
        ("serving.owner is rollout", "set serving.owner to chart"),
    ),
    "chart without a release": ({"serving": {"owner": "chart"}}, ("control.name is empty", "name the release")),
    "share of nobody": (
        changed(CHART_OWNS, "serving.treatmentShare", 10),
        ("serving.treatmentShare is 10", "name the release that takes the share"),
    ),
    "one release twice": (
        changed(CHART_OWNS, "serving.releases.treatment", CONTROL),
        ('both "r42"', "a release stands beside another one"),
    ),
    "gate without a rollout": (
        changed(CHART_OWNS, "pipelines.recurringRuns.gate.enabled", True),
        ("gate.enabled is true but serving.owner is chart", "set serving.owner to rollout"),
    ),
    "gate without its settings": (
        {"pipelines": {"recurringRuns": {"gate": {"enabled": True}}}},
        ("gate.enabled is true but its parameters.rollout is empty", "give the rollout's settings"),
    ),
    "release without its place": (arm(storageUri=""), ('the name "r42" but no storageUri', "release step's output")),
    "release without a hash": (arm(hash=""), ("or no hash", "release step's output")),
    "a place of another release": (
        arm(storageUri="s3://models/shop/r41"),
        ("s3://models/shop/r41", "must be the release's name or hash"),
    ),
    "a place whose tag moves": (arm(storageUri="oci://x/r42:latest"), ("whose tag moves", "release's name or hash")),
    "half a feature service": (
        arm(featureService={"name": "recommender_r42", "hash": ""}),
        ("needs both name and hash", "in the release's manifest"),
    ),
    "a transformer without a feature store": (
        changed(TWO_ARMS, "featureStore.registrySecret", ""),
        ("there is no feature store", "set featureStore.registrySecret"),
    ),
    "a Service's name too long": (
        changed(arm(name="r" * 30, storageUri="oci://x/y:" + "r" * 30), "serving.service", "s" * 40),
        ("of 83 characters", "shorten it or serving.service"),
    ),
    "fewer at most than at least": (
        {"serving": {"replicas": 4, "autoscaling": {"mostReplicas": 2}}},
        ("mostReplicas is 2, below serving.replicas 4", "raise it"),
    ),
    "a pipeline that is not there": (
        {"pipelines": {"recurringRuns": {"monitoring": {"enabled": True, "pipeline": "nosuch"}}}},
        ('pipeline is "nosuch", which the chart does not hold', "make chart"),
    ),
    "no digest": (
        {"images": {"requireDigests": True}, "pipelines": {"install": "none"}},
        ("digest is empty", "make images"),
    ),
    "pipelines without digests": (
        {k: v for k, v in changed(DIGESTS, "images.requireDigests", True).items() if k != "pipelines"},
        ("without a digest", "compile it with digests"),
    ),
    "a tag that moves": ({"images": {"redis": {"tag": "latest"}}}, ("images.redis.tag is latest", "name a version")),
    "feast without a registry": (
        {"featureStore": {"enabled": True}},
        ("featureStore.registrySecret is empty", "name the Secret"),
    ),
    "feast without a redis": (
        {"featureStore": {"registrySecret": "r"}, "redis": {"enabled": False}},
        ("redis.enabled is false", "give redis.address"),
    ),
    "operator without its secret": (
        {"featureStore": {"mode": "operator", "registrySecret": "r"}},
        ("featureStore.operator.secret is empty", "keys redis and sql"),
    ),
    "own redis with tls": ({"redis": {"tls": True}}, ("redis.address is empty", "give the address")),
    "two ways to the object store": (
        {"objectStore": {"secret": "s3", "identityAnnotations": {"a": "b"}}},
        ("are both set", "choose the secret or workload identity"),
    ),
    "a queue of nothing": (
        {"training": {"queue": {"enabled": True}}},
        ("clusterQueue is empty", "name the ClusterQueue"),
    ),
    "many nodes on a volume of one": (
        {"training": {"nodes": 2, "checkpoints": {"accessMode": "ReadWriteOnce"}}},
        ("training.nodes is 2", "set ReadWriteMany or train on 1"),
    ),
}


@pytest.mark.parametrize("name", TOGETHER)
@pytest.mark.parametrize("helm", [3, 4])
def test_values_that_contradict_each_other_are_refused_with_the_way_out(chart: Path, name: str, helm: int) -> None:
    values, words = TOGETHER[name]
    with pytest.raises(Refused) as refused:
        render(chart, Case(name="", values=values), helm=helm)
    for said in words:
        assert said in str(refused.value)


def test_helm_3_refuses_by_schema_too(chart: Path) -> None:
    for path, value, _ in BY_SCHEMA:
        with pytest.raises(Refused, match="schema"):
            render(chart, Case(name="", values=changed({}, path, value)), helm=3)


def test_a_chart_without_pipelines_says_how_to_get_them(chart: Path, tmp_path: Path) -> None:
    import shutil

    bare = tmp_path / "nextpage"
    shutil.copytree(chart, bare)
    shutil.rmtree(bare / "files" / "pipelines")
    with pytest.raises(Refused, match="run `make chart` first"):
        render(bare, Case(name=""))


def test_a_release_name_that_no_service_can_bear_is_refused(chart: Path) -> None:
    with pytest.raises(Refused, match=r"begins with a digit.*set fullnameOverride"):
        render(chart, Case(name="", release="9lives"))


def test_there_are_forty_wrong_values_at_least() -> None:
    assert len(BY_SCHEMA) + len(TOGETHER) >= 40
    assert TREATMENT["name"] != CONTROL["name"]
