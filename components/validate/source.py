"""A table as it came: can it be read, and of what types are its columns?"""

from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nextpage.interactions.log import Dataset, Split

SPLIT_FORM = 'write {"kind": "time", "validation_start": …, "test_start": …} with zones, or {"kind": "leave_one_out"}'


class UnreadableError(ValueError):
    """A file that cannot be read at all; the message is one sentence with the remedy."""


def column_types(path: Path) -> dict[str, str]:
    """Each column's type in the words of the suites. Reads the whole file once, so that no later step meets bad bytes.

    Raises UnreadableError where the file is missing, no Parquet, cut short, damaged, or holds text that is not UTF-8.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise UnreadableError(f"{path.name}: expected one Parquet file, found {found} there; ingest the source again")
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            for batch in file.iter_batches():
                for name, column in zip(schema.names, batch.columns, strict=True):
                    reading = name
                    column.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        what = str(error).splitlines()[0]
        if "UTF8" in what or "UTF-8" in what:
            raise UnreadableError(
                f"{path.name}: expected UTF-8 text, found other bytes in column {reading!r}; "
                "decode the source with its own encoding (such as latin-1) and ingest it again"
            ) from error
        raise UnreadableError(
            f"{path.name}: expected a readable Parquet file, found {path.stat().st_size:,} bytes ({what}); "
            "is it a CSV, or cut short? ingest the source again"
        ) from error
    names = schema.names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UnreadableError(f"{path.name}: expected one column a name, found several named {twice[0]!r}; rename them")
    return {field.name: _type(field.type) for field in schema}


def read_split(dataset: Dataset) -> Split:
    """Raises UnreadableError where split.json is missing, no split, or its moments have no zone."""
    try:
        split = dataset.split()
    except FileNotFoundError as error:
        raise UnreadableError(f"split.json: expected a file, found nothing there; {SPLIT_FORM}") from error
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise UnreadableError(f"split.json: expected a split, found other content ({error}); {SPLIT_FORM}") from error
    for moment in (split.validation_start, split.test_start):
        if isinstance(moment, datetime) and moment.tzinfo is None:
            raise UnreadableError(f"split.json: expected moments with a zone, found {moment}; {SPLIT_FORM}")
    return split


def _type(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "string"
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return "integer"
    if pa.types.is_floating(kind):
        return "double"
    if pa.types.is_decimal(kind):
        return "decimal"
    if pa.types.is_timestamp(kind):
        return f"timestamp {'with' if kind.tz else 'without'} zone"
    return str(kind)
