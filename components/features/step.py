"""From a clean dataset to a features folder: offline sources, registry, online store, training and evaluation rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from feature_repo.events import (
    Events,
    HeldOut,
    read_attributes,
    read_events,
    read_held_out,
    timestamps,
)
from feature_repo.service import service_hash, service_name
from feature_repo.snapshots import snapshot_moments, write_histories, write_item_profiles, write_user_profiles
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
    moved. Online histories become those of this log's end: events pushed after it must be pushed again.
    """
    features.mkdir(parents=True, exist_ok=True)
    dataset = Dataset(folder=clean)
    events = read_events(dataset)
    held_out = read_held_out(dataset, events)
    slices = _training_slices(events, held_out, config)
    snapshots = _write_sources(features, dataset, events, slices, held_out, config)
    _fill_store(
        features,
        dataset,
        config,
        training=_training_rows(events, slices),
        evaluation=_evaluation_rows(events, held_out),
        end=events.end,
        version=version,
        environment=environment,
    )
    summary = {
        "version": version,
        "service": service_name(version),
        "service_hash": service_hash(events=config.events),
        "history_events": config.events,
        "log_end": events.end,
        "events": len(events.time),
        "users": len(events.user_ids),
        "items": len(events.item_ids),
        "snapshots": snapshots,
        "training_rows": len(slices.user),
        "evaluation_rows": len(held_out.user),
    }
    (features / "features.json").write_text(json.dumps(summary, indent=1))
    return summary


def card(summary: dict[str, Any]) -> str:
    """What was made, as Markdown."""
    return f"""# Features

| | |
|---|---:|
| events | {summary["events"]:,} |
| users | {summary["users"]:,} |
| items | {summary["items"]:,} |
| training rows (slices of a user's log) | {summary["training_rows"]:,} |
| evaluation rows (held-out pages) | {summary["evaluation_rows"]:,} |
| events in a history, at most | {summary["history_events"]:,} |

Every row was read from the feature store as of its moment, so it holds nothing that came later. Online, the store
serves all {summary["users"]:,} users as feature service `{summary["service"]}` (`{summary["service_hash"][:12]}`).
"""


def _training_slices(events: Events, held_out: HeldOut, config: FeaturesConfig) -> Slices:
    training = events.time < held_out.training_end[events.user]
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
    held_out: HeldOut,
    config: FeaturesConfig,
) -> int:
    """Write the views' offline rows; returns the number of snapshots."""
    user, moment = snapshot_moments(events, (slices.user, slices.as_of), (held_out.user, held_out.moment))
    write_histories(features / "history.parquet", events, user, moment, last=config.events)
    users = read_attributes(dataset.users, "user_id")
    write_user_profiles(features / "user_profile.parquet", events, user, moment, users)
    items = read_attributes(dataset.items, "item_id")
    moments = np.array([events.start, *_split_seconds(dataset.split()), events.end])
    write_item_profiles(features / "item_profile.parquet", events, moments, items)
    return len(user)


def _fill_store(
    features: Path,
    dataset: Dataset,
    config: FeaturesConfig,
    *,
    training: pa.Table,
    evaluation: pa.Table,
    end: int,
    version: str,
    environment: str,
) -> None:
    """Register the views, answer the two questions, and put the last snapshots online."""
    from feature_repo.definitions import definitions
    from feature_repo.retrieval import retrieve_histories
    from feature_repo.store import create_store, materialise

    store = create_store(features, environment)
    store.apply(
        definitions(
            version=version,
            events=config.events,
            user_attributes=_attribute_names(dataset.users, "user_id"),
            item_attributes=_attribute_names(dataset.items, "item_id"),
        )
    )
    retrieve_histories(store, service_name(version), training, features / "training.parquet")
    retrieve_histories(store, service_name(version), evaluation, features / "evaluation.parquet")
    materialise(store, end)


def _training_rows(events: Events, slices: Slices) -> pa.Table:
    return pa.table(
        {
            "user_id": events.user_ids.take(pa.array(slices.user)),
            "event_timestamp": timestamps(slices.as_of),
            "target_from": timestamps(slices.target_from),
        }
    )


def _evaluation_rows(events: Events, held_out: HeldOut) -> pa.Table:
    return pa.table(
        {
            "user_id": events.user_ids.take(pa.array(held_out.user)),
            "event_timestamp": timestamps(held_out.moment),
            "request_id": held_out.request_id,
            "split": held_out.split,
        }
    )


def _attribute_names(path: Path, key: str) -> list[str]:
    return [name for name in read_attributes(path, key).column_names if name != key]


def _split_seconds(split: Split) -> list[int]:
    return [int(moment.timestamp()) for moment in (split.validation_start, split.test_start) if moment]
