"""Amazon 5-core sequences: `<category>.sequences.txt`, a line `user item item …` in order; `<category>.item_text.tsv`.

There are no time stamps: events lie a day apart, and every user's last one on the same day, so that leave-one-out is
a split by time as well. Each event is a page of one ordered item. Item text is the words of the title and of the
description, and the attributes where they are words (the toys' are numbers); category is the last, narrowest attribute.
"""

from dataclasses import dataclass
from pathlib import Path

import duckdb

from nextpage.interactions.log import Split
from nextpage.interactions.paging import make_interactions

LAST_DAY = "timestamptz '2014-07-01 00:00:00+00'"


@dataclass(frozen=True, kw_only=True)
class Amazon:
    """`folder` holds the two files of `category`: Beauty, Sports_and_Outdoors or Toys_and_Games."""

    folder: str
    category: str = "Beauty"


def read_amazon(config: Amazon, connection: duckdb.DuckDBPyConnection) -> Split:
    """Define `interactions`, `items` and `users` in the connection."""
    sequences = Path(config.folder) / f"{config.category}.sequences.txt"
    texts = Path(config.folder) / f"{config.category}.item_text.tsv"
    for path in (sequences, texts):
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: set option 'folder' to where the {config.category} files lie")
    lines = connection.read_csv(str(sequences), header=False, columns={"line": "varchar"}, sep="\t", quotechar="")
    lines.create_view("lines")
    connection.execute(
        f"""
        create table events as
        with users as (
            select sequence[1] as user_id, sequence[2:] as history
            from (select string_split(trim(line), ' ') as sequence from lines)
        ), steps as (
            select user_id, len(history) as length, unnest(history) as item_id,
                   unnest(range(len(history))) as step from users
        )
        select user_id, user_id || '-' || step as request_id, item_id, 'ordered' as behaviour,
               {LAST_DAY} - to_days((length - 1 - step)::integer) as timestamp,
               null::double as value, null::varchar as scenario, null::bigint as position
        from steps
        """
    )
    make_interactions(connection)
    connection.read_csv(str(texts), sep="\t", quotechar="", all_varchar=True).create_view("texts")
    connection.execute(
        """
        create view items as
        select item_id, trim(regexp_replace(concat_ws(' ', text_id, lexical_id,
                   regexp_replace(attributes, 'attr[0-9]+|;', ' ', 'g')), '\\s+', ' ', 'g')) as text,
               nullif(trim(string_split(rtrim(attributes, '; '), ';')[-1]), '') as category, asin
        from texts
        """
    )
    connection.execute("create view users as select distinct user_id from events")
    return Split(kind="leave_one_out")
