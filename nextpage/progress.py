"""Progress that a person can read: a moving bar in a terminal, a line every few seconds in a log."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")


def bar(*, total: int | None, unit: str, title: str, shown: bool = True) -> "tqdm[Any]":
    """A bar to `update` by hand; `set_postfix_str` shows figures such as the loss."""
    live = sys.stderr.isatty()
    return tqdm(
        total=total,
        disable=not shown,
        unit=unit,
        desc=title,
        unit_scale=True,
        mininterval=0.2 if live else 5.0,
        ascii=not live,
        ncols=None if live else 100,
    )


def track(items: Iterable[T], *, total: int | None = None, unit: str, title: str) -> Iterator[T]:
    """The items, with a bar that moves as they are taken."""
    with bar(total=total, unit=unit, title=title) as moving:
        for item in items:
            yield item
            moving.update()
