"""Envoy's configuration on one machine: what never changes, and two files that are read again when replaced.

A file that is renamed over another is taken up whole, within milliseconds and without dropping a connection. Its
`version_info` stands in Envoy's admin interface once it is in force.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serving.rollout.state import Phase, State

Config = dict[str, Any]
TYPE = "type.googleapis.com/envoy."
CLUSTERS, ROUTES = "clusters.json", "routes.json"


def bootstrap(folder: Path, port: int, admin_port: int) -> Config:
    """A listener on 127.0.0.1 whose routes and clusters are files of `folder`."""
    manager = {
        "@type": f"{TYPE}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "arms",
        "rds": {"route_config_name": "arms", "config_source": _file(folder / ROUTES)},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{TYPE}extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    network = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    return {
        "node": {"id": "nextpage", "cluster": "nextpage"},
        "admin": {"address": _address(admin_port)},
        "dynamic_resources": {"cds_config": _file(folder / CLUSTERS)},
        "static_resources": {
            "listeners": [{"name": "arms", "address": _address(port), "filter_chains": [{"filters": [network]}]}]
        },
    }


def clusters(ports: Mapping[str, int]) -> Config:
    """A cluster a release, each one server on 127.0.0.1."""
    return _versioned(
        {
            "@type": f"{TYPE}config.cluster.v3.Cluster",
            "name": name,
            "type": "STATIC",
            "connect_timeout": "1s",
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
            },
        }
        for name, port in sorted(ports.items())
    )


def routes(state: State, *, arm_header: str, treatment: str, others: Sequence[str], timeout: str) -> Config:
    """Arms by an exact header, weights for requests without one: the rules of strategy `httproute`."""
    stable = state.stable.name if state.stable else None
    found: list[Config] = []
    if state.candidate and state.percent:
        candidate = state.candidate.name
        serves = stable if state.phase is Phase.RAMPING else candidate
        weighted = [{"name": name, "weight": share} for name, share in state.shares.items()]
        found = [
            _route({"cluster": candidate}, timeout, arm_header, treatment),
            *(_route({"cluster": serves}, timeout, arm_header, arm) for arm in others),
            _route({"weighted_clusters": {"clusters": weighted}}, timeout),
        ]
    elif stable:
        found = [_route({"cluster": stable}, timeout)]
    host = {"name": "all", "domains": ["*"], "routes": found}
    return _versioned([{"@type": f"{TYPE}config.route.v3.RouteConfiguration", "name": "arms", "virtual_hosts": [host]}])


def replace(path: Path, config: Config) -> None:
    """Write a file that is never seen half written."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(config))
    partial.replace(path)


def _route(action: Config, timeout: str, header: str = "", value: str = "") -> Config:
    match: Config = {"prefix": "/"}
    if header:
        match["headers"] = [{"name": header, "string_match": {"exact": value}}]
    return {"match": match, "route": {**action, "timeout": timeout}}


def _versioned(resources: Any) -> Config:
    listed = list(resources)
    digest = hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()
    return {"version_info": digest[:16], "resources": listed}


def _address(port: int) -> Config:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _file(path: Path) -> Config:
    return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}
