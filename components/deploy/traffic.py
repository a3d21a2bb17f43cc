"""The rollout that a configuration names: driver, ledger and smoke test."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from components.deploy.config import RolloutConfig
from serving.rollout import local
from serving.rollout.file_ledger import FileLedger
from serving.rollout.release import Release
from serving.rollout.rollout import Rollout
from serving.rollout.smoke import Prediction

if TYPE_CHECKING:  # a second and a half that a rollout on one machine need not wait
    from serving.rollout.cluster import Cluster
    from serving.rollout.cluster_driver import Strategy

NOTHING: Mapping[str, Any] = {"history": {"items": []}}


def open_rollout(config: RolloutConfig, request: Mapping[str, Any] = NOTHING) -> Rollout:
    """`request`: of the smoke test; only `start` needs a real one. Raises RolloutRefused where the cluster allows no
    strategy, with the reasons."""
    times = {"ready_s": config.ready_s, "linger_s": config.linger_s}
    smoke = Prediction(model_name=config.service, request=request)
    if config.strategy == "local":
        folder = Path(config.folder).absolute()
        driver = local.Local(folder=folder, port=config.port, command=_command(config.command))
        return Rollout(driver=driver, ledger=FileLedger(folder=folder), smoke=smoke, poll_s=0.2, **times)
    from serving.rollout.cluster import connect
    from serving.rollout.cluster_driver import ClusterDriver
    from serving.rollout.lease import LeaseLedger

    api = connect()
    ledger = LeaseLedger(cluster=api, service=config.service, namespace=config.namespace)
    return Rollout(driver=ClusterDriver(api, _strategy(config, api)), ledger=ledger, smoke=smoke, **times)


def _strategy(config: RolloutConfig, api: "Cluster") -> "Strategy":
    from serving.rollout import capabilities, httproute, knative, standard_canary

    chosen = capabilities.choose(
        capabilities.discover(api, kserve_version=config.kserve_version),
        transformer=config.transformer is not None,
        experiment=config.experiment,
        strategy=config.strategy,
    )
    named = {"service": config.service, "namespace": config.namespace}
    match chosen:
        case "httproute":
            gateway = (config.gateway[0], config.gateway[1])
            return httproute.HttpRoute(hostnames=config.hostnames, gateway=gateway, **named)
        case "standard-canary":
            return standard_canary.StandardCanary(**named)
        case _:
            return knative.Knative(**named)


def _command(words: Sequence[str]) -> local.Command:
    if not words:
        return local.serve

    def command(release: Release, port: int) -> list[str]:
        folder = unquote(urlsplit(release.storage_uri).path)
        known = {"python": sys.executable, "port": port, "name": release.name, "hash": release.hash, "folder": folder}
        return [word.format(**known) for word in words]

    return command
