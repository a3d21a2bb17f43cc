"""Renders the chart: values and APIs in, objects out."""

import copy
import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.charts.helm import tools
from tests.charts.strict_yaml import documents

Manifest = dict[str, Any]

APIS = (
    "pipelines.kubeflow.org/v2beta1",
    "serving.kserve.io/v1beta1",
    "gateway.networking.k8s.io/v1",
    "trainer.kubeflow.org/v1alpha1",
    "kueue.x-k8s.io/v1beta2",
    "feast.dev/v1",
    "monitoring.coreos.com/v1",
    "kubeflow.org/v1alpha1",
)


class Refused(AssertionError):
    """Helm does not render it; the message is what a user sees."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What somebody installs: values over presets, on a cluster with these APIs."""

    name: str
    values: Mapping[str, Any] = field(default_factory=dict)
    presets: tuple[str, ...] = ()
    apis: tuple[str, ...] = APIS
    release: str = "shop"


def render(chart: Path, case: Case, *, helm: int = 4) -> list[Manifest]:
    """The objects, hooks and tests included. Raises Refused."""
    return documents(run(chart, case, "template", helm=helm))


def run(chart: Path, case: Case, command: str, *, helm: int = 4, extra: tuple[str, ...] = ()) -> str:
    presets = [f"--values={chart}/values-{preset}.yaml" for preset in case.presets]
    apis = [f"--api-versions={api}" for api in case.apis] if command == "template" else []
    name = [] if command == "lint" else [case.release]
    done = subprocess.run(
        [tools(helm) / "helm", command, *name, chart, "--namespace=team", *presets, *apis, *extra, "--values=-"],
        input=json.dumps(case.values),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Refused((done.stderr or done.stdout).strip())
    return done.stdout


def notes(chart: Path, case: Case, *, helm: int = 4) -> str:
    """What is shown after an installation. Offline Helm shows none, so a copy of them is rendered as an object."""
    copied = chart.parent / "notes" / "nextpage"
    if not copied.exists():
        shutil.copytree(chart, copied)
        text = (copied / "templates" / "NOTES.txt").read_text()
        (copied / "templates" / "_notes.tpl").write_text('{{- define "notes" -}}\n' + text + "{{- end }}\n")
        (copied / "templates" / "notes.yaml").write_text('notes: {{ include "notes" . | quote }}\n')
    [document] = documents(run(copied, case, "template", helm=helm, extra=("--show-only=templates/notes.yaml",)))
    return str(document["notes"])


def changed(values: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The values with one more set, by its dotted path."""
    whole = copy.deepcopy(dict(values))
    inner = whole
    *names, last = path.split(".")
    for name in names:
        inner = inner.setdefault(name, {})
    inner[last] = value
    return whole


def pod_of(manifest: Manifest) -> Manifest | None:
    """Metadata and spec of the pods that an object brings about; None where it brings none."""
    spec = manifest.get("spec", {})
    match manifest["kind"]:
        case "Pod":
            return manifest
        case "Deployment" | "StatefulSet" | "Job":
            return dict(spec["template"])
        case "ClusterTrainingRuntime":
            return dict(spec["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"])
        case "ServingRuntime":  # KServe adds the metadata of an InferenceService
            return {"metadata": {"labels": {}}, "spec": spec}
        case "InferenceService":
            pods = spec.get("transformer", {"containers": []})
            return {"metadata": manifest["metadata"], "spec": {**spec["predictor"], **pods}}
    return None


def identity(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"
