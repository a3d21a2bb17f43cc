"""The fields that an API server lets nobody change: what an upgrade must leave as it is.

`python -m tests.charts.immutable > tests/charts/previous/VERSION.json` when a version is released, so that the next one
is held against it.
"""

import hashlib
import json
import sys
from typing import Any

from tests.charts.rendering import Manifest, identity

CHANGEABLE = {  # of specs whose every other field is fixed
    "StatefulSet": {
        "replicas",
        "template",
        "updateStrategy",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    },
    "PersistentVolumeClaim": {"resources"},
    "Job": {"activeDeadlineSeconds", "backoffLimit", "parallelism", "suspend", "ttlSecondsAfterFinished"},
}
FIXED = {  # of specs whose every other field may change
    "Deployment": ("selector",),
    "Service": ("clusterIP",),
    "LocalQueue": ("clusterQueue",),
}
HOLD_DATA = ("StatefulSet", "PersistentVolumeClaim")
"""Under another name they would begin empty."""


def immutable(manifests: list[Manifest]) -> dict[str, Any]:
    """By object; hooks are left out, for they are made anew each time."""
    return {
        identity(manifest): _of(manifest)
        for manifest in manifests
        if "helm.sh/hook" not in manifest["metadata"].get("annotations", {})
    }


def _of(manifest: Manifest) -> Any:
    kind, spec = manifest["kind"], manifest.get("spec", {})
    if kind in CHANGEABLE:
        return {name: value for name, value in spec.items() if name not in CHANGEABLE[kind]}
    if kind == "RoleBinding":
        return manifest["roleRef"]
    if kind == "PipelineVersion":
        return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()
    if kind == "ClusterTrainingRuntime":
        return spec["template"]["spec"]["failurePolicy"]
    return {name: spec.get(name) for name in FIXED.get(kind, ())}


def broken(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What an upgrade from one to the other would fail on, or lose."""
    changed = [name for name in before.keys() & after.keys() if before[name] != after[name]]
    lost = [name for name in before.keys() - after.keys() if name.partition("/")[0] in HOLD_DATA]
    return sorted([*(f"{name} changes" for name in changed), *(f"{name} is gone" for name in lost)])


if __name__ == "__main__":
    from tests.charts.conftest import SOURCE
    from tests.charts.rendering import render
    from tests.charts.test_upgrade import INSTALLED

    json.dump(immutable(render(SOURCE, INSTALLED)), sys.stdout, indent=1, sort_keys=True)
    print()
