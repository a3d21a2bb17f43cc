"""Entities, sources, feature views and feature services, for the attributes that a dataset brings."""

from collections.abc import Callable, Sequence
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.data_source import DataSource
from feast.types import Array, FeastType, Int64, String

from feature_repo.service import HISTORY_FIELDS, service_hash, service_name
from nextpage.interactions.log import BEHAVIOURS

PUSH_SOURCE = "events"
HISTORY = "history"
USER_PROFILE = "user_profile"
ITEM_PROFILE = "item_profile"

BEHAVIOUR_COUNTS = tuple(f"{name}_count" for name in BEHAVIOURS)
USER_COUNTS = ("page_count", *BEHAVIOUR_COUNTS, "first_time", "last_time")
ITEM_COUNTS = BEHAVIOUR_COUNTS

TYPES: dict[str, FeastType] = {"Array(String)": Array(String), "Array(Int64)": Array(Int64)}

FeastObject = Entity | FeatureView | FeatureService | PushSource


def source_path(view: str) -> str:
    """Where a view's offline rows lie, relative to the features folder."""
    return f"{view}.parquet"


def file_source(view: str) -> DataSource:
    """A view's offline rows as DuckDB reads them, wherever the folder lies."""
    return FileSource(name=f"{view}_source", path=source_path(view), timestamp_field="event_timestamp")


def spark_source(folder: Path) -> Callable[[str], DataSource]:
    """The views' offline rows as Spark reads them: where the folder lies now, for all executors alike."""
    from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource

    def source(view: str) -> DataSource:
        path = str(folder.resolve() / source_path(view))
        return SparkSource(name=f"{view}_source", path=path, file_format="parquet", timestamp_field="event_timestamp")

    return source


def definitions(
    *,
    version: str,
    events: int,
    user_attributes: Sequence[str],
    item_attributes: Sequence[str],
    source: Callable[[str], DataSource] = file_source,
) -> list[FeastObject]:
    """All that `feast apply` registers for a release; `source` gives a view's offline rows.

    No view has a time to live: a household that was away for long keeps its history, and materialising would drop
    without a word the rows that are older than one. Raises ValueError where an attribute bears the name of a count.
    """
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING)
    pushed = PushSource(name=PUSH_SOURCE, batch_source=source(HISTORY))
    history = FeatureView(
        name=HISTORY,
        entities=[user],
        source=pushed,
        schema=[
            Field(name="user_id", dtype=String),
            *(Field(name=name, dtype=TYPES[kind]) for name, kind in HISTORY_FIELDS.items()),
        ],
        description=f"The user's last {events} events before a moment, oldest first",
    )
    user_profile = _profile(source(USER_PROFILE), USER_PROFILE, user, "user_id", user_attributes, USER_COUNTS)
    item_profile = _profile(source(ITEM_PROFILE), ITEM_PROFILE, item, "item_id", item_attributes, ITEM_COUNTS)
    tags = {"hash": service_hash(events=events), "events": str(events)}
    return [
        user,
        item,
        pushed,
        history,
        user_profile,
        item_profile,
        FeatureService(name=service_name(version), features=[history], tags=tags),
        FeatureService(name=f"users_{version}", features=[user_profile]),
        FeatureService(name=f"items_{version}", features=[item_profile]),
    ]


def _profile(
    source: DataSource, name: str, entity: Entity, key: str, attributes: Sequence[str], counts: Sequence[str]
) -> FeatureView:
    taken = sorted(set(attributes) & {*counts, "event_timestamp"})
    if taken:
        raise ValueError(f"attributes {taken} of the {entity.name} table bear names that {name} uses: rename them")
    return FeatureView(
        name=name,
        entities=[entity],
        source=source,
        schema=[
            Field(name=key, dtype=String),
            *(Field(name=attribute, dtype=String) for attribute in attributes),
            *(Field(name=count, dtype=Int64) for count in counts),
        ],
    )
