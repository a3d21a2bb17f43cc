"""Which pages train, validate and test: the one place where a log is divided.

The division is an Ibis expression, for it is asked of DuckDB on one machine and of Spark on many.
"""

from datetime import UTC

import ibis  # type: ignore[import-untyped]
import ibis.expr.types as ir  # type: ignore[import-untyped]
import pyarrow as pa

from nextpage.interactions.database import connect
from nextpage.interactions.log import INTERACTION_SCHEMA, Dataset, Split

SPLITS = ("train", "validation", "test")
"""In time order: a split's place here is its code in arrays."""


def page_splits(dataset: Dataset) -> pa.Table:
    """One row a page, by user and page: user_id, request_id, page, timestamp, split (one of `SPLITS`)."""
    with connect() as connection:
        connection.read_parquet(str(dataset.interactions)).create_view("interactions")
        query = f"from ({pages_query(dataset.split())}) order by user_id, page"
        return connection.sql(query).to_arrow_table()


def pages_query(split: Split) -> str:
    """DuckDB's SQL for the pages of a relation `interactions`, with the columns of `page_splits`."""
    log = ibis.table(ibis.Schema.from_pyarrow(INTERACTION_SCHEMA), name="interactions")
    return str(ibis.to_sql(pages(log, split), dialect="duckdb"))


def pages(log: ir.Table, split: Split) -> ir.Table:
    """The pages of a log in `INTERACTION_SCHEMA`, with the columns of `page_splits`, in no order.

    `time`: a page at or after a moment belongs to what begins there. `leave_one_out`: a user's last page is test and
    the one before it validation; a user's first page is always training.
    """
    page = log.group_by("user_id", "request_id").agg(page=log.page.min(), timestamp=log.timestamp.min())
    if split.kind == "time":
        assert split.validation_start is not None
        assert split.test_start is not None
        choice = ibis.cases(
            (page.timestamp >= split.test_start.astimezone(UTC), "test"),
            (page.timestamp >= split.validation_start.astimezone(UTC), "validation"),
            else_="train",
        )
    else:
        earlier = ibis.row_number().over(group_by=page.user_id, order_by=page.page)
        later = ibis.row_number().over(group_by=page.user_id, order_by=page.page.desc())
        choice = ibis.cases((earlier == 0, "train"), (later == 0, "test"), (later == 1, "validation"), else_="train")
    return page.mutate(split=choice)
