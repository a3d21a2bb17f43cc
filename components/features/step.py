"""From a clean dataset to a features folder: offline sources, registry, online store, training and evaluation rows."""

import json
from pathlib import Path
from typing import Any

import ibis.expr.types as ir

from feature_repo.engines import DuckDB, Spark, open_engine
from feature_repo.events import Source, held_out, item_ids, read_source, slices, user_logs
from feature_repo.service import service_hash, service_name
from feature_repo.snapshots import histories, item_profiles, snapshots, timestamps, user_profiles
from nextpage.interactions.log import Dataset
from nextpage.interactions.slices import FeaturesConfig

ROWS_AT_ONCE = 1_000
"""Histories in memory while writing, and in one row group."""


def build_features(
    clean: Path,
    features: Path,
    config: FeaturesConfig,
    *,
    version: str = "dev",
    environment: str = "local",
    engine: str = "duckdb",
) -> dict[str, Any]:
    """Fill the folder `features` from the dataset folder `clean`.

    `version` names the feature services; `environment` is one of feature_repo/environments; `engine` is `duckdb` or
    `spark` (feature_repo/engines.py): both write the same rows, Spark a folder of files where DuckDB writes one.
    Returns what `features/features.json` holds: the service and its hash, which a release records, and counts. The
    folder can be moved. Online histories become those of this log's end: events pushed after it must be pushed again.
    """
    features.mkdir(parents=True, exist_ok=True)
    with open_engine(engine, features) as opened:
        source = read_source(Dataset(folder=clean), opened)
        counts = _fill(features, source, opened, config, version=version, environment=environment)
    summary = {
        "version": version,
        "service": service_name(version),
        "service_hash": service_hash(events=config.events),
        "history_events": config.events,
        "log_end": source.end,
        **counts,
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


def _fill(
    features: Path,
    source: Source,
    engine: DuckDB | Spark,
    config: FeaturesConfig,
    *,
    version: str,
    environment: str,
) -> dict[str, int]:
    """Write the views' offline rows, ask the store the two questions, and put the last snapshots online; counts."""
    logs = engine.keep(user_logs(source), "logs")
    held = engine.keep(held_out(source), "held")
    learnt = engine.keep(slices(logs, held, source.end, config), "learnt")
    evaluated = held.filter(held.positive)
    moments = engine.keep(snapshots(logs, learnt, evaluated, source.end), "moments")
    _write_sources(features, source, engine, logs, moments, last=config.events)
    training, evaluation = _fill_store(
        features,
        source,
        engine,
        config,
        training=learnt.select("user_id", _moment(learnt.as_of), target_from=timestamps(learnt.target_from)),
        evaluation=evaluated.select("user_id", _moment(evaluated.moment), "request_id", "split"),
        version=version,
        environment=environment,
    )
    whole = {
        "events": source.log.count(),
        "users": logs.count(),
        "items": item_ids(source).count(),
        "snapshots": moments.count(),
    }
    counted = {name: engine.rows(count.as_table())[0][0] for name, count in whole.items()}
    return counted | {"training_rows": training, "evaluation_rows": evaluation}


def _write_sources(
    features: Path, source: Source, engine: DuckDB | Spark, logs: ir.Table, moments: ir.Table, *, last: int
) -> None:
    """The views' offline rows, by key and moment."""
    split = [int(moment.timestamp()) for moment in (source.split.validation_start, source.split.test_start) if moment]
    history = histories(moments, logs, last=last).order_by("user_id", "event_timestamp")
    engine.write(history, features / "history.parquet", row_group=ROWS_AT_ONCE)
    users = user_profiles(moments, logs, source).order_by("user_id", "event_timestamp")
    engine.write(users, features / "user_profile.parquet")
    items = item_profiles(source, [source.start, *split, source.end]).order_by("event_timestamp", "item_id")
    engine.write(items, features / "item_profile.parquet")


def _fill_store(
    features: Path,
    source: Source,
    engine: DuckDB | Spark,
    config: FeaturesConfig,
    *,
    training: ir.Table,
    evaluation: ir.Table,
    version: str,
    environment: str,
) -> tuple[int, int]:
    """Register the views, answer the two questions, and put the last snapshots online; rows of the two answers."""
    from feature_repo.definitions import definitions, file_source, spark_source
    from feature_repo.retrieval import retrieve_histories
    from feature_repo.store import create_store, materialise

    on_spark = isinstance(engine, Spark)
    store = create_store(features, environment, "spark" if on_spark else "duckdb")
    store.apply(
        definitions(
            version=version,
            events=config.events,
            user_attributes=[name for name in source.users.columns if name != "user_id"],
            item_attributes=[name for name in source.items.columns if name != "item_id"],
            source=spark_source(features) if on_spark else file_source,
        )
    )
    learnt = retrieve_histories(store, service_name(version), training, features / "training.parquet", engine)
    asked = retrieve_histories(store, service_name(version), evaluation, features / "evaluation.parquet", engine)
    materialise(store, source.end)
    return learnt, asked


def _moment(seconds: ir.IntegerValue) -> ir.TimestampValue:
    return timestamps(seconds).name("event_timestamp")
