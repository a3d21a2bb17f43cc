"""A Kubernetes API server's memory: server-side apply with field ownership, versions, generations, events."""

import json
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
Path = tuple[str, ...]
Key = tuple[str, str, str, str]  # apiVersion, plural, namespace, name
UNOWNED = (("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace"), ("metadata", "resourceVersion"))


def copied(value: Any) -> Any:
    """A deep copy of JSON, several times faster than `copy.deepcopy`."""
    return json.loads(json.dumps(value))


class Refusal(Exception):
    """An answer that is not 2xx."""

    def __init__(self, code: int, reason: str, message: str, causes: list[Json] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = {
            "kind": "Status",
            "code": code,
            "reason": reason,
            "message": message,
            "details": {"causes": causes or []},
        }


@dataclass
class Entry:
    live: Json
    owners: dict[Path, set[str]] = field(default_factory=dict)


class Store:
    """`settle` is called after every change that is not of a status, as controllers are; it may write statuses."""

    def __init__(self, validate: Callable[[Json], list[str]] | None = None) -> None:
        self.entries: dict[Key, Entry] = {}
        self.events: list[tuple[int, str, Key, Json]] = []
        self.changed = threading.Condition(threading.RLock())
        self.settle: Callable[[], None] = lambda: None
        self._validate = validate
        self._version = 0

    def get(self, key: Key) -> Json:
        with self.changed:
            if key not in self.entries:
                raise Refusal(404, "NotFound", f"{key[1]} {key[3]!r} not found")
            return copied(self.entries[key].live)

    def all(self, plural: str) -> list[Json]:
        """The live objects themselves: to be read."""
        with self.changed:
            return [entry.live for key, entry in list(self.entries.items()) if key[1] == plural]

    def list(self, kind: tuple[str, str, str], labels: Mapping[str, str]) -> Json:
        with self.changed:
            items = [entry.live for key, entry in sorted(self.entries.items()) if key[:3] == kind]
            chosen = [live for live in items if labels.items() <= live["metadata"].get("labels", {}).items()]
            return {"metadata": {"resourceVersion": str(self._version)}, "items": copied(chosen)}

    def create(self, key: Key, sent: Json) -> Json:
        with self.changed:
            if key in self.entries:
                raise Refusal(409, "AlreadyExists", f"{key[1]} {key[3]!r} already exists")
            self._put(key, Entry(self._born(sent)), "ADDED")
            return self.get(key)

    def replace(self, key: Key, sent: Json) -> Json:
        with self.changed:
            before = self.get(key)
            self._same_version(key, sent, before)
            live = {**copied(sent), "status": before.get("status", {})}
            live["metadata"] = {**before["metadata"], **sent["metadata"]}
            self._put(key, Entry(live, self.entries[key].owners), "MODIFIED", before)
            return self.get(key)

    def delete(self, key: Key, preconditions: Mapping[str, str]) -> Json:
        with self.changed:
            before = self.get(key)
            for name, value in preconditions.items():
                if before["metadata"][name] != value:
                    raise Refusal(409, "Conflict", f"the {name} in the precondition does not match")
            del self.entries[key]
            self._announce(key, "DELETED", before)
            self.settle()
            return before

    def apply(self, key: Key, sent: Json, manager: str, *, force: bool) -> Json:
        """Server-side apply. Lists are owned as a whole, which is what atomic lists are."""
        with self.changed:
            if self._validate and (found := self._validate(sent)):
                raise Refusal(422, "Invalid", "; ".join(found))
            wanted = {path: value for path, value in _leaves(sent) if path not in UNOWNED}
            if key not in self.entries:
                live = self._born(
                    {"apiVersion": sent["apiVersion"], "kind": sent["kind"], "metadata": sent["metadata"]}
                )
                live["metadata"] = {
                    name: value for name, value in live["metadata"].items() if name not in ("labels", "annotations")
                }
                entry, before = Entry(live), None
            else:
                before = self.get(key)
                self._same_version(key, sent, before)
                entry = Entry(
                    copied(self.entries[key].live),
                    {path: set(owners) for path, owners in self.entries[key].owners.items()},
                )
            self._refuse_owned(entry, wanted, manager, force)
            for path in [path for path, owners in entry.owners.items() if manager in owners and path not in wanted]:
                entry.owners[path].discard(manager)
                if not entry.owners[path]:
                    del entry.owners[path]
                    _remove(entry.live, path)
            for path, value in wanted.items():
                if _at(entry.live, path) != value:
                    entry.owners[path] = set()
                _set(entry.live, path, value)
                entry.owners.setdefault(path, set()).add(manager)
            self._put(key, entry, "MODIFIED" if before else "ADDED", before)
            return self.get(key)

    def set_status(self, key: Key, status: Json) -> None:
        """What a controller says of an object; its generation stays."""
        with self.changed:
            entry = self.entries[key]
            if entry.live.get("status") != status:
                entry.live["status"] = copied(status)
                self._announce(key, "MODIFIED", entry.live)

    def _refuse_owned(self, entry: Entry, wanted: Mapping[Path, Any], manager: str, force: bool) -> None:
        causes = [
            {"reason": "FieldManagerConflict", "message": f"conflict with {other!r}", "field": "." + ".".join(path)}
            for path, value in wanted.items()
            for other in entry.owners.get(path, set()) - {manager}
            if _at(entry.live, path) != value
        ]
        if causes and not force:
            raise Refusal(409, "Conflict", f"Apply failed with {len(causes)} conflict(s)", causes)

    @staticmethod
    def _same_version(key: Key, sent: Json, live: Json) -> None:
        version = sent["metadata"].get("resourceVersion")
        if version and version != live["metadata"]["resourceVersion"]:
            raise Refusal(409, "Conflict", f"Operation cannot be fulfilled on {key[3]!r}: the object has been modified")

    @staticmethod
    def _born(sent: Json) -> Json:
        live = copied(sent)
        live["metadata"] |= {"uid": uuid.uuid4().hex, "generation": 0, "resourceVersion": ""}
        return live

    def _put(self, key: Key, entry: Entry, event: str, before: Json | None = None) -> None:
        if before is not None and entry.live == before:
            self.entries[key] = entry  # a write that changes nothing makes no version
            return
        if before is None or entry.live.get("spec") != before.get("spec"):
            entry.live["metadata"]["generation"] += 1
        self.entries[key] = entry
        self._announce(key, event, entry.live)
        self.settle()

    def _announce(self, key: Key, event: str, live: Json) -> None:
        self._version += 1
        live["metadata"]["resourceVersion"] = str(self._version)
        self.events.append((self._version, event, key, copied(live)))
        self.changed.notify_all()


def _leaves(value: Json, above: Path = ()) -> list[tuple[Path, Any]]:
    found: list[tuple[Path, Any]] = []
    for name, part in value.items():
        if isinstance(part, dict) and part:
            found += _leaves(part, (*above, name))
        else:
            found.append(((*above, name), part))
    return found


def _at(value: Json, path: Path) -> Any:
    for name in path:
        value = value.get(name, {}) if isinstance(value, dict) else {}
    return value if value != {} else None


def _set(value: Json, path: Path, leaf: Any) -> None:
    for name in path[:-1]:
        value = value.setdefault(name, {})
    value[path[-1]] = copied(leaf)


def _remove(value: Json, path: Path) -> None:
    above = [value]
    for name in path[:-1]:
        above.append(above[-1].get(name, {}))
    above[-1].pop(path[-1], None)
    for holder, name in zip(reversed(above[:-1]), reversed(path[:-1]), strict=True):
        if holder.get(name) == {}:
            del holder[name]
