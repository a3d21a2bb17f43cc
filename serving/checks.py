"""Checks of values that came as JSON. Each names the field, the value and the bound in what it raises."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from serving.errors import InvalidRequest


def parsed(field: str, value: object) -> Any:
    if not isinstance(value, bytes | str):
        raise InvalidRequest(f"{field} is {_shown(value)}, JSON text is expected")
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"{field} is not JSON: {error}") from None


def mapping(field: str, value: object, known: Sequence[str] | None = None) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{field} is {_shown(value)}, an object is expected")
    for name in value:
        if known is not None and name not in known:
            raise InvalidRequest(f"{field} has the unknown field {_shown(name)}: known are {', '.join(known)}")
    return value


def text(field: str, value: object, longest: int) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{field} is {_shown(value)}, a string is expected")
    if not 1 <= len(value) <= longest:
        raise InvalidRequest(f"{field} has {len(value)} characters, 1 to {longest} are taken")
    return value


def one_of(field: str, value: object, known: Sequence[str]) -> str:
    if value not in known:
        raise InvalidRequest(f"{field} is {_shown(value)}: use one of {', '.join(known)}")
    return str(value)


def integer(field: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequest(f"{field} is {_shown(value)}, a whole number from {low} to {high} is expected")
    if not low <= value <= high:
        raise InvalidRequest(f"{field} is {value}, outside {low} to {high}")
    return value


def strings(field: str, value: object, most: int, longest: int, *, fewest: int = 0) -> tuple[str, ...]:
    return tuple(
        text(f"{field}[{place}]", entry, longest) for place, entry in enumerate(entries(field, value, fewest, most))
    )


def integers(field: str, value: object, most: int, low: int, high: int) -> tuple[int, ...]:
    return tuple(
        integer(f"{field}[{place}]", entry, low, high) for place, entry in enumerate(entries(field, value, 0, most))
    )


def number(field: str, value: object) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
        raise InvalidRequest(f"{field} is {_shown(value)}, a finite number is expected")
    return float(value)


def entries(field: str, value: object, fewest: int, most: int) -> Sequence[Any]:
    if not isinstance(value, list | tuple | range):
        raise InvalidRequest(f"{field} is {_shown(value)}, a list is expected")
    if not fewest <= len(value) <= most:
        raise InvalidRequest(f"{field} has {len(value)} entries, {fewest} to {most} are taken")
    return value


def _shown(value: object) -> str:
    shown = "absent" if value is None else repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
