"""Make the pipelines known to Kubeflow Pipelines, and its recurring runs those of the plan.

`python register.py FOLDER ENDPOINT`, where FOLDER holds plan.json and the pipelines. It may be run again at any time,
and after a death at any line: what is there already is left, so nothing is uploaded or scheduled twice.
"""

import json
import sys
from pathlib import Path
from typing import Any

from kfp import Client
from kfp.client import ServiceAccountTokenVolumeCredentials
from kfp_server_api import ApiException

EXPERIMENT = "nextpage"


def connect(endpoint: str) -> Client:
    """With the token that the pod mounts: told its host, the client looks for none by itself."""
    return Client(host=endpoint, credentials=ServiceAccountTokenVolumeCredentials())


def register(client: Client, plan: dict[str, Any], folder: Path) -> None:
    """Upload the plan's pipelines, then replace recurring runs that differ from the plan's."""
    for pipeline in plan["upload"]:
        upload(client, plan["namespace"], folder / pipeline["file"], pipeline["name"], pipeline["version"])
    schedule(client, plan)


def upload(client: Client, namespace: str | None, path: Path, name: str, version: str) -> None:
    pipeline_id = find_pipeline(client, namespace, name)
    if pipeline_id is None:
        pipeline_id = client.upload_pipeline(str(path), pipeline_name=name, namespace=namespace).pipeline_id
    if find_version(client, pipeline_id, version) is not None:
        print(f"{name} {version} is there")
        return
    try:
        client.upload_pipeline_version(str(path), pipeline_version_name=version, pipeline_id=pipeline_id)
    except ApiException as failure:
        if failure.status != 409:  # 409: our own earlier call, whose answer was lost
            raise
    print(f"{name} {version} uploaded")


def schedule(client: Client, plan: dict[str, Any]) -> None:
    experiment = client.create_experiment(EXPERIMENT, namespace=plan["namespace"])  # or the one that is there
    wanted = {run["name"]: run for run in plan["recurring"]}
    kept = set()
    listed = client.list_recurring_runs(experiment_id=experiment.experiment_id, page_size=100).recurring_runs or []
    for live in listed:
        if live.display_name not in plan["names"]:
            continue
        if live.display_name in wanted and live.description == said(wanted[live.display_name]):
            kept.add(live.display_name)
            continue
        client.delete_recurring_run(live.recurring_run_id)
        print(f"{live.display_name} removed: it is no longer as planned")
    for name, run in wanted.items():
        if name in kept:
            print(f"{name} is there")
            continue
        pipeline_id = find_pipeline(client, plan["namespace"], run["pipeline"])
        version_id = pipeline_id and find_version(client, pipeline_id, run["version"])
        if version_id is None:
            sys.exit(f"{run['pipeline']} {run['version']} is not in Kubeflow Pipelines yet: is its cache behind?")
        client.create_recurring_run(
            experiment.experiment_id,
            name,
            description=said(run),
            cron_expression=run["cron"],
            max_concurrency=1,
            no_catchup=True,
            params=run["parameters"],
            pipeline_id=pipeline_id,
            version_id=version_id,
            service_account=plan["runner"],
        )
        print(f"{name} scheduled: {run['cron']}")


def said(run: dict[str, Any]) -> str:
    """A recurring run's description, by which it is known again."""
    return json.dumps({key: run[key] for key in ("pipeline", "version", "cron", "parameters")}, sort_keys=True)


def find_pipeline(client: Client, namespace: str | None, name: str) -> str | None:
    found = client.list_pipelines(page_size=2, filter=named(name), namespace=namespace).pipelines
    return found[0].pipeline_id if found else None


def find_version(client: Client, pipeline_id: str, version: str) -> str | None:
    found = client.list_pipeline_versions(pipeline_id, page_size=2, filter=named(version)).pipeline_versions
    return found[0].pipeline_version_id if found else None


def named(name: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


if __name__ == "__main__":
    there = Path(sys.argv[1])
    register(connect(sys.argv[2]), json.loads((there / "plan.json").read_text()), there)
