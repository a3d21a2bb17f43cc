"""Validates objects against the CRDs' own schemas as an API server does, refusing unknown fields.

In its order: defaults are filled in, nulls count as absent, then types and bounds, then the uniqueness of list entries,
then the rules in CEL. A rule that cannot be evaluated is an error, never a pass.
"""

import copy
import json
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import cel
from jsonschema import Draft202012Validator

CRDS = Path(__file__).resolve().parents[4] / "shared" / "crds"
RESERVED = ("namespace",)  # of the words of CEL, the one that is a field here: rules spell it `__namespace__`
Json = Any


def problems(manifest: Mapping[str, Json]) -> list[str]:
    """What an API server would refuse the object for; empty where it would take it."""
    group, _, version = manifest["apiVersion"].partition("/")
    schema = _schema(group, manifest["kind"], version)
    if schema is None:
        return [f"apiVersion: {manifest['kind']} is not served in {version} of {group}"]
    whole = _with_defaults(_without_nulls(copy.deepcopy(dict(manifest))), schema)
    checker = _checker(group, manifest["kind"], version)
    found = [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in checker.iter_errors(whole)
    ]
    return found or list(_rules(whole, schema, ""))


@cache
def served() -> dict[tuple[str, str], dict[str, Json]]:
    """Each CRD's spec by group and kind."""
    specs = [json.loads(path.read_text())["spec"] for path in sorted(CRDS.glob("*.json"))]
    return {(spec["group"], spec["names"]["kind"]): spec for spec in specs}


def _schema(group: str, kind: str, version: str) -> dict[str, Json] | None:
    for offered in served().get((group, kind), {"versions": []})["versions"]:
        if offered["name"] == version and offered["served"]:
            return offered["schema"]["openAPIV3Schema"]
    return None


@lru_cache
def _checker(group: str, kind: str, version: str) -> Draft202012Validator:
    schema = _closed(_schema(group, kind, version))
    schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}
    return Draft202012Validator(schema)


def _closed(schema: Mapping[str, Json]) -> dict[str, Json]:
    """A structural schema as JSON Schema in which objects have no fields but those it names."""
    closed = {name: value for name, value in schema.items() if not name.startswith("x-") and name != "default"}
    closed.pop("format", None)
    if schema.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
    if "properties" in schema:
        closed["properties"] = {name: _closed(part) for name, part in schema["properties"].items()}
    if isinstance(schema.get("items"), dict):
        closed["items"] = _closed(schema["items"])
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        closed["additionalProperties"] = _closed(extra)
    elif schema.get("type") == "object" and not schema.get("x-kubernetes-preserve-unknown-fields") and extra is None:
        closed["additionalProperties"] = False
    return closed


def _without_nulls(value: Json) -> Json:
    if isinstance(value, dict):
        return {name: _without_nulls(part) for name, part in value.items() if part is not None}
    return [_without_nulls(part) for part in value] if isinstance(value, list) else value


def _with_defaults(value: Json, schema: Mapping[str, Json]) -> Json:
    if isinstance(value, dict):
        for name, part in schema.get("properties", {}).items():
            if name not in value and "default" in part:
                value[name] = copy.deepcopy(part["default"])
            if name in value:
                value[name] = _with_defaults(value[name], part)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        return [_with_defaults(part, schema["items"]) for part in value]
    return value


def _rules(value: Json, schema: Mapping[str, Json], where: str) -> Iterator[str]:
    """Broken list uniqueness and broken CEL rules, here and below."""
    if isinstance(value, list):
        yield from _repeated(value, schema, where)
    for rule in schema.get("x-kubernetes-validations", []):
        if "oldSelf" in rule["rule"]:
            continue  # of a change, and this is none
        if not _program(rule["rule"]).execute({"self": _escaped(value)}):
            yield f"{where}: {rule.get('message', rule['rule'])}"
    if isinstance(value, dict):
        extra = schema.get("additionalProperties")
        for name, part in value.items():
            below = schema.get("properties", {}).get(name, extra if isinstance(extra, dict) else None)
            if below is not None:
                yield from _rules(part, below, f"{where}.{name}")
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for place, part in enumerate(value):
            yield from _rules(part, schema["items"], f"{where}[{place}]")


def _repeated(value: list[Json], schema: Mapping[str, Json], where: str) -> Iterator[str]:
    match schema.get("x-kubernetes-list-type"):
        case "set":
            keys = [json.dumps(part, sort_keys=True) for part in value]
        case "map":
            names = schema["x-kubernetes-list-map-keys"]
            keys = [json.dumps([part.get(name) for name in names]) for part in value]
        case _:
            return
    for key in sorted({key for key in keys if keys.count(key) > 1}):
        yield f"{where}: {key} stands twice"


@cache
def _program(rule: str) -> cel.Program:
    return cel.compile(rule)


def _escaped(value: Json) -> Json:
    if isinstance(value, dict):
        return {f"__{name}__" if name in RESERVED else name: _escaped(part) for name, part in value.items()}
    return [_escaped(part) for part in value] if isinstance(value, list) else value
