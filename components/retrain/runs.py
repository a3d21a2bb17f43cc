"""Retraining runs in Kubeflow Pipelines: which there are, one more, one less.

By the API's generated client and not by `kfp.Client`: its calls have no time limit, and within a step it cannot be
imported.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import kfp_server_api as api
from urllib3.exceptions import ConnectTimeoutError, HTTPError, MaxRetryError, NewConnectionError

from components.processes import NAMESPACE

EXPERIMENT, PIPELINE = "nextpage", "nextpage-recommender"
PREFIX = "retrain: "
"""Begins the name of every retraining run, by which it is known."""
TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")
ENDED = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELING", "CANCELED")
AGAIN = (408, 425, 429, 500, 502, 503, 504)
TIMEOUT_S = 30.0
WAITS_S = (1.0, 4.0, 10.0, 30.0)
Answer = TypeVar("Answer")


class NotMade(RuntimeError):
    """The run was certainly not made; it may be asked for again."""


class NotKnown(RuntimeError):
    """Whether the run was made nobody can say: the answer was lost, or says too little."""


@dataclass(frozen=True, kw_only=True)
class Retraining:
    id: str
    name: str
    created: datetime
    active: bool


class Runs(Protocol):
    """What the step asks of Kubeflow Pipelines."""

    def newest(self) -> list[Retraining]:
        """Retraining runs, the newest first."""
        ...

    def start(self, name: str, arguments: Mapping[str, Any]) -> str:
        """The id of a new run of the newest version of the pipeline. Raises NotMade or NotKnown."""
        ...

    def end(self, run: str) -> None: ...


class KubeflowRuns:
    """Those of the experiment `nextpage` behind `endpoint`, in this pod's namespace where Kubeflow has many users."""

    def __init__(self, endpoint: str, *, waits_s: tuple[float, ...] = WAITS_S, timeout_s: float = TIMEOUT_S) -> None:
        settings = api.Configuration(host=endpoint.rstrip("/"))
        if TOKEN.is_file():
            settings.api_key_prefix["authorization"] = "Bearer"
            settings.refresh_api_key_hook = _read_token
            _read_token(settings)
        client = api.ApiClient(settings)
        self._runs, self._experiments = api.RunServiceApi(client), api.ExperimentServiceApi(client)
        self._pipelines = api.PipelineServiceApi(client)
        self._waits_s, self._limit = waits_s, {"_request_timeout": timeout_s}
        health = self._asked(lambda: api.HealthzServiceApi(client).healthz_service_get_healthz(**self._limit))
        self._namespace = {"namespace": NAMESPACE.read_text().strip()} if health.multi_user else {}
        self._experiment = self._asked(self._find_experiment)

    def newest(self) -> list[Retraining]:
        asked = {"sort_by": "created_at desc", "page_size": 50, "filter": _filter("IS_SUBSTRING", PREFIX)}
        found = self._asked(
            lambda: self._runs.run_service_list_runs(experiment_id=self._experiment, **asked, **self._limit)
        )
        return [
            Retraining(id=run.run_id, name=run.display_name, created=run.created_at, active=run.state not in ENDED)
            for run in found.runs or []
            if run.display_name.startswith(PREFIX)
        ]

    def start(self, name: str, arguments: Mapping[str, Any]) -> str:
        run = api.V2beta1Run(
            display_name=name,
            experiment_id=self._experiment,
            pipeline_version_reference=self._asked(self._find_version),
            runtime_config=api.V2beta1RuntimeConfig(parameters=dict(arguments)),
        )
        try:
            return str(self._runs.run_service_create_run(run, **self._limit).run_id)
        except api.ApiException as error:
            if error.status == 429:
                raise NotMade(f"Kubeflow Pipelines is busy ({error.status})") from error
            if error.status is not None and 400 <= error.status < 500 and error.status != 409:
                raise  # refused, with a reason
            raise NotKnown(f"Kubeflow Pipelines answered {error.status}") from error
        except MaxRetryError as error:
            if isinstance(error.reason, NewConnectionError | ConnectTimeoutError):
                raise NotMade(f"Kubeflow Pipelines was not reached ({type(error.reason).__name__})") from error
            raise NotKnown(f"the answer was lost ({type(error.reason).__name__})") from error
        except HTTPError as error:
            raise NotKnown(f"the answer was lost ({type(error).__name__})") from error

    def end(self, run: str) -> None:
        self._asked(lambda: self._runs.run_service_terminate_run(run, **self._limit))

    def _find_experiment(self) -> str:
        found = self._experiments.experiment_service_list_experiments(
            filter=_filter("EQUALS", EXPERIMENT), page_size=1, **self._namespace, **self._limit
        ).experiments
        if found:
            return str(found[0].experiment_id)
        made = api.V2beta1Experiment(display_name=EXPERIMENT, **self._namespace)
        return str(self._experiments.experiment_service_create_experiment(made, **self._limit).experiment_id)

    def _find_version(self) -> api.V2beta1PipelineVersionReference:
        found = self._pipelines.pipeline_service_list_pipelines(
            filter=_filter("EQUALS", PIPELINE), page_size=1, **self._namespace, **self._limit
        ).pipelines
        versions = (
            found
            and self._pipelines.pipeline_service_list_pipeline_versions(
                found[0].pipeline_id, sort_by="created_at desc", page_size=1, **self._limit
            ).pipeline_versions
        )
        if not versions:
            raise RuntimeError(f"Kubeflow Pipelines has no pipeline {PIPELINE!r}: install the chart, or upload it")
        return api.V2beta1PipelineVersionReference(
            pipeline_id=versions[0].pipeline_id, pipeline_version_id=versions[0].pipeline_version_id
        )

    def _asked(self, call: Callable[[], Answer]) -> Answer:
        """What may be asked twice, until it is answered. A 409 is one: what we were to make has just been made."""
        for wait in (*self._waits_s, None):
            try:
                return call()
            except (api.ApiException, HTTPError) as error:
                status = getattr(error, "status", None)
                if wait is None or (status is not None and status not in (*AGAIN, 409)):
                    raise
                print(f"Kubeflow Pipelines: {status or type(error).__name__}, asked again in {wait:.0f} s", flush=True)
                time.sleep(wait)
        raise AssertionError


def _read_token(settings: api.Configuration) -> None:
    """Called before each call: tokens are renewed in their file."""
    settings.api_key["authorization"] = TOKEN.read_text().strip()


def _filter(operation: str, name: str) -> str:
    return json.dumps({"predicates": [{"operation": operation, "key": "display_name", "stringValue": name}]})
