"""A frozen dataclass as JSON under a hash of its own, in a file that is written once and never replaced."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, Protocol, TypeVar, get_args, get_origin, get_type_hints


class Sealed(Protocol):
    """A dataclass with a field `hash`, which covers all others."""

    @property
    def hash(self) -> str: ...


Kind = TypeVar("Kind", bound=Sealed)


class RecordRefused(RuntimeError):
    """The record is not what its hash says, or does not follow from what came before; the message says which."""


def content_hash(value: Any) -> str:
    return hashlib.sha256(to_json(replace(value, hash="")).encode()).hexdigest()


def sealed(value: Kind) -> Kind:
    """The value with the hash of its content."""
    made: Kind = replace(value, hash=content_hash(value))  # type: ignore[type-var]
    return made


def write_once(value: Sealed, path: Path) -> Path:
    """Write a read-only file, which appears whole or not at all. Writing the same value again changes nothing; another
    value under that name is refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(to_json(value))
    unfinished.chmod(0o444)
    try:
        os.link(unfinished, path)  # unlike a rename, never replaces a file
    except FileExistsError:
        if path.read_text() != to_json(value):
            raise RecordRefused(f"{path} is there with another content, and a record is never replaced") from None
    finally:
        unfinished.unlink()
    return path


def read_sealed(kind: type[Kind], raw: Mapping[str, Any], source: object) -> Kind:
    """The value from the JSON of `source`. Raises RecordRefused for what is no `kind` or was changed."""
    try:
        value: Kind = built(kind, raw)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecordRefused(f"{source} cannot be read as a record: {error}") from error
    if content_hash(value) != value.hash:
        raise RecordRefused(f"{source} was changed after it was written: its contents have another hash")
    return value


def built(kind: Any, raw: Any) -> Any:
    """What JSON holds, as the dataclasses and tuples of `kind`."""
    if is_dataclass(kind) and isinstance(raw, Mapping):
        types = get_type_hints(kind)
        return kind(**{name: built(types[name], value) for name, value in raw.items()})  # type: ignore[operator]
    if get_origin(kind) is tuple and isinstance(raw, list):
        kinds = get_args(kind)
        kinds = (kinds[0],) * len(raw) if kinds[-1] is Ellipsis else kinds
        return tuple(built(one, value) for one, value in zip(kinds, raw, strict=True))
    if isinstance(kind, UnionType):
        return raw
    return float(raw) if kind is float else raw


def to_json(value: Any) -> str:
    """The text that is hashed and written: keys sorted, no NaN."""
    return json.dumps(asdict(value), sort_keys=True, allow_nan=False, separators=(",", ":"))
