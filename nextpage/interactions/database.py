"""DuckDB as this house uses it."""

from pathlib import Path

import duckdb

MEMORY_LIMIT = "1GB"


def connect(spill: Path | None = None) -> duckdb.DuckDBPyConnection:
    """An engine in memory, near `MEMORY_LIMIT`; what does not fit goes to `spill`. Times are those of UTC.

    Rows have no order but that of an `order by`.
    """
    settings = {"memory_limit": MEMORY_LIMIT} | ({} if spill is None else {"temp_directory": str(spill)})
    connection = duckdb.connect(config=settings)
    connection.execute("set TimeZone = 'UTC'; set enable_progress_bar = false; set preserve_insertion_order = false")
    return connection
