"""Ingest: a source becomes a dataset folder, and a card says what is in it."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq
import yaml

from nextpage.interactions.database import connect
from nextpage.interactions.loaders import Source, load
from nextpage.interactions.log import BEHAVIOURS, Dataset
from nextpage.interactions.splits import SPLITS, page_splits


def ingest(source: str, options: str, folder: Path) -> dict[str, int]:
    """Load `source` into `folder` and count it: rows, users, items, pages, rows by behaviour, pages by split.

    `options` is YAML or JSON, the options of the source's dataclass; empty means its defaults.
    """
    chosen = yaml.safe_load(options) or {}
    if not isinstance(chosen, Mapping):
        raise ValueError(f"options {options!r} are no mapping: write name: value, as in '{{households: 400}}'")
    return _count(load(Source(name=source, options=chosen), folder))


def _count(dataset: Dataset) -> dict[str, int]:
    split = page_splits(dataset)["split"].to_pylist()
    with connect() as connection:
        connection.read_parquet(str(dataset.interactions)).create_view("interactions")
        rows, users = connection.execute("select count(*), count(distinct user_id) from interactions").fetchall()[0]
        behaviours = dict(connection.execute("select behaviour, count(*) from interactions group by 1").fetchall())
    items = pq.read_metadata(dataset.items).num_rows
    return (
        {"rows": rows, "users": users, "items": items, "pages": len(split)}
        | {name: behaviours.get(name, 0) for name in BEHAVIOURS}
        | {name: split.count(name) for name in SPLITS}
    )


def card(source: str, summary: Mapping[str, int]) -> str:
    """Markdown for the Kubeflow UI."""
    lines = [f"# Data: {source}", "", "| | |", "|---|---:|"]
    lines += [f"| {name} | {summary[name]:,} |" for name in ("rows", "users", "items", "pages")]
    lines += ["", "| rows by behaviour | |", "|---|---:|"]
    lines += [f"| {name} | {summary[name]:,} |" for name in reversed(BEHAVIOURS)]
    lines += ["", "| pages by split | |", "|---|---:|"]
    lines += [f"| {name} | {summary[name]:,} |" for name in SPLITS]
    return "\n".join(lines) + "\n"
