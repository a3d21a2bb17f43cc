"""Which pages train, validate and test: the one place where a log is divided."""

import pyarrow as pa

from nextpage.interactions.database import connect
from nextpage.interactions.log import Dataset, Split

SPLITS = ("train", "validation", "test")
"""In time order: a split's place here is its code in arrays."""


def page_splits(dataset: Dataset) -> pa.Table:
    """One row a page, by user and page: user_id, request_id, page, timestamp, split (one of `SPLITS`)."""
    with connect() as connection:
        connection.read_parquet(str(dataset.interactions)).create_view("interactions")
        query = f"from ({pages_query(dataset.split())}) order by user_id, page"
        return connection.sql(query).to_arrow_table()


def pages_query(split: Split) -> str:
    """SQL for the pages of a relation `interactions`, with the columns of `page_splits`.

    `time`: a page at or after a moment belongs to what begins there. `leave_one_out`: a user's last page is test and
    the one before it validation; a user's first page is always training.
    """
    if split.kind == "time":
        assert split.validation_start is not None
        assert split.test_start is not None
        choice = f"""case when timestamp >= timestamptz '{split.test_start.isoformat()}' then 'test'
                          when timestamp >= timestamptz '{split.validation_start.isoformat()}' then 'validation'
                          else 'train' end"""
    else:
        choice = """case when row_number() over earlier = 1 then 'train'
                         when row_number() over later = 1 then 'test'
                         when row_number() over later = 2 then 'validation' else 'train' end"""
    return f"""
        select user_id, request_id, page, timestamp, {choice} as split
        from (select user_id, request_id, min(page) as page, min(timestamp) as timestamp
              from interactions group by user_id, request_id)
        window earlier as (partition by user_id order by page), later as (partition by user_id order by page desc)
    """
