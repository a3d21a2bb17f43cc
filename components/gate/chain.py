"""Records of one experiment as a chain: each names the one before it, and only the last is followed."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from nextpage.experiments.sealed import RecordRefused


class Linked(Protocol):
    @property
    def hash(self) -> str: ...

    @property
    def previous(self) -> str | None: ...


Link = TypeVar("Link", bound=Linked)


def newest(folder: Path, read: Callable[[Path], Link]) -> Link | None:
    """The record that no other names; None in an empty folder. `read` refuses one that was changed.

    Raises RecordRefused where a record is missing, or two follow the same one.
    """
    found = [read(path) for path in sorted(folder.glob("*.json"))]
    if not found:
        return None
    named = [record.previous for record in found]
    last = [record for record in found if record.hash not in named]
    hashes = {record.hash for record in found}
    missing = [record.previous for record in found if record.previous is not None and record.previous not in hashes]
    if missing or len(last) != 1 or named.count(None) != 1:
        broken = f"record {missing[0][:12]} is missing" if missing else "it has two ends"
        raise RecordRefused(f"the records in {folder} are no chain: {broken}. Was the folder edited, or filled twice?")
    return last[0]
