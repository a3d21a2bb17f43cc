"""Pipelines as YAML, and runs of them on a cluster."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def compile_pipelines(folder: Path) -> list[Path]:
    """Write each pipeline as IR YAML into `folder`."""
    from kfp import compiler

    from pipelines.monitoring import monitoring
    from pipelines.recommender import recommender
    from pipelines.rollout import rollout

    folder.mkdir(parents=True, exist_ok=True)
    pipelines = {"recommender": recommender, "rollout": rollout, "monitoring": monitoring}
    paths = [folder / f"{name}.yaml" for name in pipelines]
    for path, pipeline in zip(paths, pipelines.values(), strict=True):
        compiler.Compiler().compile(pipeline, str(path))
    return paths


def submit_run(
    host: str,
    name: str,
    arguments: Mapping[str, Any],
    *,
    experiment: str,
    namespace: str | None = None,
    token: str | None = None,
) -> str:
    """Start a run on the Kubeflow Pipelines at `host`; the run's address in the UI.

    `namespace` is the user's profile where Kubeflow has many users; `token` a bearer token where it asks for one.
    """
    from kfp import Client

    from pipelines.recommender import recommender

    client = Client(host=host, existing_token=token)
    started = client.create_run_from_pipeline_func(
        recommender, arguments=dict(arguments), run_name=name, experiment_name=experiment, namespace=namespace
    )
    return f"{host.rstrip('/')}/#/runs/details/{started.run_id}"
