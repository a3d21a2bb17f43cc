"""`helm upgrade` from the version before, and to the next one, changes no field that cannot be changed."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.charts.cases import TWO_ARMS
from tests.charts.immutable import broken, immutable
from tests.charts.rendering import Case, Manifest, changed, identity, render

PREVIOUS = sorted((Path(__file__).parent / "previous").glob("*.json"))
INSTALLED = Case(name="installed", values=changed(TWO_ARMS, "training.queue.clusterQueue", "gpu-training"))


@pytest.fixture(scope="module")
def now(chart: Path) -> list[Manifest]:
    return render(chart, INSTALLED)


@pytest.mark.parametrize("path", PREVIOUS, ids=lambda path: path.stem)
def test_an_upgrade_from_a_released_version_is_taken(now: list[Manifest], path: Path) -> None:
    before = json.loads(path.read_text())
    assert {name.partition("/")[0] for name in before} >= {"StatefulSet", "Deployment", "RoleBinding", "LocalQueue"}
    assert broken(before, immutable(now)) == []


def test_a_version_alone_changes_no_such_field(chart: Path, now: list[Manifest], tmp_path: Path) -> None:
    shutil.copytree(chart, tmp_path / "nextpage")
    about = tmp_path / "nextpage" / "Chart.yaml"
    about.write_text(about.read_text().replace("ersion: 0.1.0", "ersion: 9.9.9"))
    later = render(tmp_path / "nextpage", INSTALLED)
    assert later != now
    assert broken(immutable(now), immutable(later)) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [("images.pullSecrets", ["pull"]), ("images.registry", "x.com/y"), ("pipelines.records.create", False)],
)
def test_a_job_whose_pod_changes_is_another_job(chart: Path, now: list[Manifest], path: str, value: object) -> None:
    later = render(chart, Case(name="", values=changed(INSTALLED.values, path, value)))
    assert broken(immutable(now), immutable(later)) in ([], ["PersistentVolumeClaim/nextpage-records is gone"])
    jobs = [{name for name in immutable(made) if name.startswith("Job/")} for made in (now, later)]
    assert jobs[0]
    assert not jobs[0] & jobs[1]


def test_a_pipeline_that_changes_gets_a_version_of_another_name(chart: Path, now: list[Manifest]) -> None:
    moved = render(chart, Case(name="", values=changed(INSTALLED.values, "images.registry", "mirror.example.com/np")))
    versions = [{m["metadata"]["name"] for m in made if m["kind"] == "PipelineVersion"} for made in (now, moved)]
    assert versions[0]
    assert not versions[0] & versions[1]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("Deployment", lambda m: m["spec"]["selector"]["matchLabels"].update(version="2")),
        ("StatefulSet", lambda m: m["spec"].update(serviceName="other")),
        ("StatefulSet", lambda m: m["spec"]["volumeClaimTemplates"][0]["metadata"]["labels"].update(version="2")),
        ("StatefulSet", lambda m: m["metadata"].update(name="other")),
        ("PersistentVolumeClaim", lambda m: m["spec"].update(accessModes=["ReadWriteOnce"])),
        ("Job", lambda m: m["spec"]["template"]["spec"]["containers"][0].update(image="other")),
        ("RoleBinding", lambda m: m["roleRef"].update(name="other")),
        ("LocalQueue", lambda m: m["spec"].update(clusterQueue="other")),
        ("PipelineVersion", lambda m: m["spec"].update(displayName="other")),
    ],
)
def test_a_change_that_an_api_server_refuses_is_found(now: list[Manifest], kind: str, change: Callable) -> None:
    later = copy.deepcopy(now)
    change(next(manifest for manifest in later if manifest["kind"] == kind and identity(manifest) in immutable(later)))
    assert broken(immutable(now), immutable(later))
