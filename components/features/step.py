"""From a clean dataset to a features folder: offline sources, registry, online store, training and evaluation rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.events import SECOND, Events, Requests, read_events, read_requests, training_ends
from feature_repo.service import service_hash, service_name
from feature_repo.snapshots import (
    TIMESTAMP,
    snapshot_moments,
    write_histories,
    write_item_profiles,
    write_user_profiles,
)
from nextpage.interactions.log import Dataset, Split
from nextpage.interactions.slices import FeaturesConfig, Slices, cut_slices


def build_features(
    clean: Path,
    features: Path,
    config: FeaturesConfig,
    *,
    version: str = "dev",
    environment: str = "local",
) -> dict[str, Any]:
    """Fill the folder `features` from the dataset folder `clean`.

    `version` names the feature services; `environment` is one of feature_repo/environments. Returns what
    `features/features.json` holds: the service and its hash, which a release records, and counts. The folder can be
    moved. An online store that already holds newer events of a user is taken back to the end of this log.
    """
    features.mkdir(parents=True, exist_ok=True)
    dataset = Dataset(folder=clean)
    events = read_events(dataset)
    requests = read_requests(dataset, events)
    slices = _training_slices(events, training_ends(dataset.split(), events, requests), config)
    user, moment = _write_sources(features, dataset, events, slices, requests, config)
    _fill_store(features, dataset, events, slices, requests, config, version=version, environment=environment)
    summary = {
        "version": version,
        "service": service_name(version),
        "service_hash": service_hash(events=config.events),
        "history_events": config.events,
        "log_end": events.end,
        "events": len(events.time),
        "users": len(events.user_ids),
        "items": len(events.item_ids),
        "snapshots": len(user),
        "training_rows": len(slices.user),
        "evaluation_rows": len(requests.user),
    }
    (features / "features.json").write_text(json.dumps(summary, indent=1))
    return summary


def _training_slices(events: Events, ends: np.ndarray, config: FeaturesConfig) -> Slices:
    training = events.time < ends[events.user]
    return cut_slices(
        user=events.user[training],
        time=events.time[training],
        positive=events.behaviour[training] > 0,
        config=config,
    )


def _write_sources(
    features: Path,
    dataset: Dataset,
    events: Events,
    slices: Slices,
    requests: Requests,
    config: FeaturesConfig,
) -> tuple[np.ndarray, np.ndarray]:
    user, moment = snapshot_moments(events, (slices.user, slices.as_of), (requests.user, requests.moment))
    write_histories(features / "history.parquet", events, user, moment, last=config.events)
    write_user_profiles(features / "user_profile.parquet", events, user, moment, pq.read_table(dataset.users))
    moments = np.array([int(events.time.min()), *_split_seconds(dataset.split()), events.end])
    write_item_profiles(features / "item_profile.parquet", events, moments, pq.read_table(dataset.items))
    return user, moment


def _fill_store(
    features: Path,
    dataset: Dataset,
    events: Events,
    slices: Slices,
    requests: Requests,
    config: FeaturesConfig,
    *,
    version: str,
    environment: str,
) -> None:
    from feature_repo.definitions import definitions
    from feature_repo.retrieval import retrieve_histories
    from feature_repo.store import create_store, materialise

    store = create_store(features, environment)
    store.apply(
        definitions(
            version=version,
            events=config.events,
            user_attributes=pq.read_schema(dataset.users).names[1:],
            item_attributes=pq.read_schema(dataset.items).names[1:],
        )
    )
    training = {
        "user_id": _ids(events, slices.user),
        "event_timestamp": _timestamps(slices.as_of),
        "target_from": _timestamps(slices.target_from),
    }
    evaluation = {
        "user_id": _ids(events, requests.user),
        "event_timestamp": _timestamps(requests.moment),
        "request_id": requests.request_id,
        "split": requests.split,
    }
    service = service_name(version)
    retrieve_histories(store, service, pa.table(training), (features / "training.parquet").resolve())
    retrieve_histories(store, service, pa.table(evaluation), (features / "evaluation.parquet").resolve())
    materialise(store, events.end)


def _ids(events: Events, user: np.ndarray) -> pa.Array:
    return events.user_ids.take(pa.array(user))


def _timestamps(seconds: np.ndarray) -> pa.Array:
    return pc.cast(pa.array(seconds * SECOND), TIMESTAMP)


def _split_seconds(split: Split) -> list[int]:
    return [int(moment.timestamp()) for moment in (split.validation_start, split.test_start) if moment]
