"""Any log in Parquet or CSV, by a column map in YAML (the keys and an example are in docs/data.md).

A map that does not fit its files is refused with the column and the remedy. Single cells that do not fit (a time that
cannot be read, a behaviour without a mapping, an empty id) pass through, as gaps or as they are: the validation step
quarantines their rows with a reason, so that nothing is lost on the way.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import yaml

from nextpage.interactions.log import BEHAVIOURS, Split
from nextpage.interactions.paging import make_interactions, pages_by_session

KEYS: dict[str, tuple[str, ...]] = {
    "": ("interactions", "columns", "page", "items", "users", "split"),
    "columns": ("user_id", "item_id", "timestamp", "behaviour", "value", "scenario", "position"),
    "columns.behaviour": ("column", "values", "always"),
    "page": ("column", "session_minutes"),
    "items": ("path", "item_id", "text", "attributes"),
    "users": ("path", "user_id", "attributes"),
    "split": ("kind", "validation_start", "test_start"),
}
UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}


@dataclass(frozen=True, kw_only=True)
class Columns:
    """`map`: the YAML file; the paths in it are relative to it. `time_unit` of numeric times: s, ms or us."""

    map: str
    time_unit: str = "s"


@dataclass(frozen=True, kw_only=True)
class _File:
    """A relation with the names of its columns, and where the map speaks of it."""

    relation: str
    path: Path
    columns: tuple[str, ...]
    map: Path

    def column(self, name: object, key: str) -> str:
        """The column `name` in quotes, as SQL. Raises ValueError when the file has none."""
        if name not in self.columns:
            raise ValueError(
                f"column {name!r} ({key}) is not in {self.path.name}, which has {', '.join(self.columns)}: "
                f"correct {key} in {self.map.name}"
            )
        return _quoted(str(name), '"')


def read_columns(config: Columns, connection: duckdb.DuckDBPyConnection) -> Split:
    """Define `interactions`, `items` and `users` in the connection."""
    if config.time_unit not in UNITS:
        raise ValueError(f"time_unit {config.time_unit!r} is unknown: use one of {', '.join(UNITS)}")
    path = Path(config.map)
    wanted = _read_map(path)
    log = _open(connection, "raw_interactions", wanted["interactions"], "interactions", path)
    _events(connection, log, wanted, UNITS[config.time_unit])
    if "session_minutes" in wanted["page"]:
        pages_by_session(connection, 60 * float(wanted["page"]["session_minutes"]))
    make_interactions(connection)
    _items(connection, wanted.get("items"), path)
    _users(connection, wanted.get("users"), path)
    return _split(wanted["split"], path)


def _read_map(path: Path) -> dict[str, Any]:
    """The YAML with all required keys, and none that is unknown."""
    wanted = yaml.safe_load(path.read_text())
    for section, known in KEYS.items():
        part: Any = wanted
        for key in section.split(".") if section else ():
            part = part.get(key) if isinstance(part, Mapping) else None
        if part is None:
            continue
        if not isinstance(part, Mapping):
            if section == "columns.behaviour":
                continue
            raise ValueError(f"{section or 'the map'} in {path.name} is {part!r}: it must hold {', '.join(known)}")
        for key in part:
            if key not in known:
                where = f"{section}.{key}" if section else key
                raise ValueError(f"key {where!r} in {path.name} is unknown: use one of {', '.join(known)}")
    required = ("interactions", "columns.user_id", "columns.item_id", "columns.timestamp", "page", "split.kind")
    for key in required:
        first, _, second = key.partition(".")
        if first not in wanted or (second and second not in wanted[first]):
            raise ValueError(f"key {key!r} is missing in {path.name}: add it (docs/data.md shows a whole map)")
    if len(wanted["page"]) != 1:
        raise ValueError(f"page in {path.name} must hold one of {', '.join(KEYS['page'])}")
    return dict(wanted)


def _open(connection: duckdb.DuckDBPyConnection, relation: str, name: str, key: str, map_path: Path) -> _File:
    """A view of a Parquet or CSV file, or of several by a glob."""
    path = map_path.parent / name
    if not any(map_path.parent.glob(name) if not Path(name).is_absolute() else path.parent.glob(path.name)):
        raise FileNotFoundError(f"{path} is missing: correct {key} in {map_path.name}")
    if path.suffix == ".parquet":
        connection.read_parquet(str(path)).create_view(relation)
    elif path.suffix in (".csv", ".tsv", ".txt", ".gz"):
        connection.read_csv(str(path), all_varchar=True, header=True).create_view(relation)
    else:
        raise ValueError(f"{path} is neither Parquet nor CSV: use a file that ends in .parquet, .csv, .tsv or .gz")
    columns = tuple(column for column, *_ in connection.execute(f"describe {relation}").fetchall())
    return _File(relation=relation, path=path, columns=columns, map=map_path)


def _events(connection: duckdb.DuckDBPyConnection, log: _File, wanted: Mapping[str, Any], micros_a_unit: int) -> None:
    columns = wanted["columns"]
    select = {
        "user_id": _text(log.column(columns["user_id"], "columns.user_id")),
        "request_id": "null::varchar",
        "item_id": _text(log.column(columns["item_id"], "columns.item_id")),
        "behaviour": _behaviour(log, columns.get("behaviour", {"always": "ordered"})),
        "timestamp": _time(log.column(columns["timestamp"], "columns.timestamp"), micros_a_unit),
        "value": "null::double",
        "scenario": "null::varchar",
        "position": "null::bigint",
    }
    if "column" in wanted["page"]:
        select["request_id"] = _text(log.column(wanted["page"]["column"], "page.column"))
    for name, kind in (("value", "double"), ("scenario", "varchar"), ("position", "bigint")):
        if name in columns:
            select[name] = f"try_cast({log.column(columns[name], f'columns.{name}')} as {kind})"
    what = ", ".join(f"{expression} as {name}" for name, expression in select.items())
    connection.execute(f"create table events as select {what} from {log.relation}")
    _check_events(connection, log, columns)


def _check_events(connection: duckdb.DuckDBPyConnection, log: _File, columns: Mapping[str, Any]) -> None:
    """A column of which no cell can be read is a wrong map, not bad rows."""
    rows, times, behaviours = connection.execute(
        f"select count(*), count(timestamp), count(*) filter (behaviour in {BEHAVIOURS}) from events"
    ).fetchall()[0]
    if rows and not times:
        raise ValueError(
            f"column {columns['timestamp']!r} (columns.timestamp) of {log.path.name} holds no time that can be read: "
            "use timestamps such as 2024-01-31 18:05:00, or numbers since 1970 in time_unit"
        )
    if rows and not behaviours:
        seen = [name for (name,) in connection.execute("select distinct behaviour from events limit 5").fetchall()]
        raise ValueError(
            f"no behaviour of {log.path.name} is one of {', '.join(BEHAVIOURS)}, it has {seen}: "
            "map them in columns.behaviour.values"
        )


def _behaviour(log: _File, wanted: object) -> str:
    """SQL for the behaviour: a column by its name, a column with a mapping of its values, or one for every row."""
    if not isinstance(wanted, Mapping):
        return _text(log.column(wanted, "columns.behaviour"))
    if "always" in wanted:
        if wanted["always"] not in BEHAVIOURS:
            raise ValueError(
                f"behaviour {wanted['always']!r} (columns.behaviour.always) is unknown: "
                f"use one of {', '.join(BEHAVIOURS)}"
            )
        return _quoted(wanted["always"], "'")
    column = _text(log.column(wanted.get("column"), "columns.behaviour.column"))
    cases = ""
    for value, name in (wanted.get("values") or {}).items():
        if name not in BEHAVIOURS:
            raise ValueError(
                f"value {value!r} of column {wanted['column']!r} is mapped to {name!r} (columns.behaviour.values): "
                f"use one of {', '.join(BEHAVIOURS)}"
            )
        cases += f" when {_quoted(str(value), chr(39))} then {_quoted(name, chr(39))}"
    return f"case {column}{cases} else {column} end" if cases else column


def _time(column: str, micros_a_unit: int) -> str:
    """SQL for a moment: numbers count units since 1970; a time without a zone is one of UTC."""
    return (
        f"coalesce(make_timestamptz((try_cast({column}::varchar as decimal(38, 6)) * {micros_a_unit})::bigint), "
        f"try_cast({column}::varchar as timestamptz))"
    )


def _items(connection: duckdb.DuckDBPyConnection, wanted: Mapping[str, Any] | None, map_path: Path) -> None:
    if wanted is None:
        connection.execute(
            "create view items as select distinct item_id, item_id as text from events where item_id is not null"
        )
        return
    file = _open(connection, "raw_items", wanted["path"], "items.path", map_path)
    texts = wanted.get("text", [])
    joined = [_text(file.column(name, "items.text")) for name in ([texts] if isinstance(texts, str) else texts)]
    identity = _text(file.column(wanted.get("item_id"), "items.item_id"))
    text = f"nullif(concat_ws(' ', {', '.join(joined)}), '')" if joined else identity
    connection.execute(
        f"create view items as select {identity} as item_id, {text} as text{_attributes(file, wanted, 'items')} "
        f"from {file.relation}"
    )


def _users(connection: duckdb.DuckDBPyConnection, wanted: Mapping[str, Any] | None, map_path: Path) -> None:
    if wanted is None:
        connection.execute("create view users as select distinct user_id from events where user_id is not null")
        return
    file = _open(connection, "raw_users", wanted["path"], "users.path", map_path)
    identity = _text(file.column(wanted.get("user_id"), "users.user_id"))
    connection.execute(
        f"create view users as select {identity} as user_id{_attributes(file, wanted, 'users')} from {file.relation}"
    )


def _attributes(file: _File, wanted: Mapping[str, Any], section: str) -> str:
    """SQL for attributes: `{name: column}`, or a list of columns that keep their names."""
    attributes = wanted.get("attributes", {})
    if not isinstance(attributes, Mapping):
        attributes = {name: name for name in attributes}
    return "".join(
        f", {_text(file.column(column, f'{section}.attributes'))} as {_quoted(name, chr(34))}"
        for name, column in attributes.items()
    )


def _split(wanted: Mapping[str, Any], map_path: Path) -> Split:
    moments = {}
    for key in ("validation_start", "test_start"):
        moment = wanted.get(key)
        if isinstance(moment, str):
            try:
                moment = datetime.fromisoformat(moment)
            except ValueError as error:
                raise ValueError(
                    f"split.{key} in {map_path.name} is {moment!r}: use a date such as 2024-01-31"
                ) from error
        if isinstance(moment, date) and not isinstance(moment, datetime):
            moment = datetime(moment.year, moment.month, moment.day)
        if moment is not None:
            moments[key] = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return Split(kind=wanted["kind"], **moments)


def _text(column: str) -> str:
    return f"{column}::varchar"


def _quoted(text: str, mark: str) -> str:
    return mark + text.replace(mark, 2 * mark) + mark
