"""The page of values is current, the scripts of the chart's folder do what they say, its copies are copies."""

import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts import readme, verify
from components.images import REGISTRY, TAG
from images.build import FAMILIES, VALUES
from tests.charts.conftest import SOURCE
from tests.charts.rendering import Case, Manifest, render


def test_the_page_of_values_is_current() -> None:
    assert (SOURCE / "README.md").read_text() == readme.readme(), "run python charts/readme.py"


def test_a_value_without_a_comment_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readme, "CHART", tmp_path)
    (tmp_path / "values.yaml").write_text("# Known.\na: 1\nb:\n  c: 2\n")
    with pytest.raises(ValueError, match=r"b\.c in values\.yaml has no comment"):
        readme.readme()


def test_the_feature_servers_settings_are_the_repositorys() -> None:
    settings = SOURCE.parents[1] / "feature_repo" / "environments" / "cluster.yaml"
    assert (SOURCE / "files" / "feature_store.yaml").read_text() == settings.read_text()


def test_a_pipelines_resource_is_what_was_compiled(chart: Path, rendered: dict[str, list[Manifest]]) -> None:
    compiled, platform = yaml.safe_load_all((chart / "files" / "pipelines" / "recommender.yaml").read_text())
    versions = [m for m in rendered["default"] if m["kind"] == "PipelineVersion"]
    [version] = [m for m in versions if m["spec"]["pipelineName"] == compiled["pipelineInfo"]["name"]]
    assert version["spec"]["pipelineSpec"] == compiled
    assert version["spec"]["platformSpec"] == platform  # claims, node pools


def test_every_steps_image_moves_with_the_registry(rendered: dict[str, list[Manifest]], chart: Path) -> None:
    values = {"images": {"registry": "mirror.example.com/np"}}
    for version in (m for m in render(chart, Case(name="", values=values)) if m["kind"] == "PipelineVersion"):
        executors = version["spec"]["pipelineSpec"]["deploymentSpec"]["executors"].values()
        images = {executor["container"]["image"] for executor in executors if "container" in executor}
        assert images
        assert all(image.startswith("mirror.example.com/np/") for image in images)


def test_steps_read_the_secrets_that_the_values_name(chart: Path) -> None:
    fixed = {"nextpage-redis", "nextpage-feast"}
    assert fixed <= secrets_of_steps(chart, {})
    theirs = {"redis": {"secret": "their-redis"}, "featureStore": {"registrySecret": "their-feast"}}
    named = secrets_of_steps(chart, theirs)
    assert {"their-redis", "their-feast"} <= named
    assert not fixed & named


def secrets_of_steps(chart: Path, values: dict[str, Any]) -> set[str]:
    versions = [m for m in render(chart, Case(name="", values=values)) if m["kind"] == "PipelineVersion"]
    platforms = [version["spec"]["platformSpec"]["platforms"]["kubernetes"] for version in versions]
    steps = [step for platform in platforms for step in platform["deploymentSpec"]["executors"].values()]
    read = [secret for step in steps for secret in step.get("secretAsEnv", [])]
    assert all(secret["secretName"] == secret["secretNameParameter"]["runtimeValue"]["constant"] for secret in read)
    return {secret["secretName"] for secret in read}


def test_the_charts_images_are_those_that_are_built() -> None:
    values = yaml.safe_load((SOURCE / "values.yaml").read_text())["images"]
    assert values["registry"] == REGISTRY
    named = {key: image["repository"] for key, image in values.items() if isinstance(image, dict) and key != "redis"}
    assert named == {VALUES.get(name, name): name for name in FAMILIES}
    version = yaml.safe_load((SOURCE / "Chart.yaml").read_text())["appVersion"]
    assert f"{version}-python3.11" == TAG


def a_program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize("status", [0, 1])
def test_verify_renders_for_the_clusters_apis_and_asks_its_server(tmp_path: Path, status: int) -> None:
    helm = a_program(tmp_path / "helm", f'echo "$@" > {tmp_path}/asked; echo "kind: ConfigMap"')
    kubectl = a_program(
        tmp_path / "kubectl",
        f'case "$2" in api-versions) echo v1; echo a.b/v1;; *) echo "$@" > {tmp_path}/applied; '
        f"cat > {tmp_path}/objects; exit {status};; esac",
    )
    done = verify.verify("config", "team", ["-f", "mine.yaml"], helm=helm, kubectl=kubectl)
    assert done == status
    asked = (tmp_path / "asked").read_text()
    assert "--api-versions=v1 --api-versions=a.b/v1 -f mine.yaml" in asked
    assert "--dry-run=server" in (tmp_path / "applied").read_text()
    assert (tmp_path / "objects").read_text() == "kind: ConfigMap\n"
