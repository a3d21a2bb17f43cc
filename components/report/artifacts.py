"""What a run left behind, where it lies, and what a report reads from it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from nextpage.gates import Verdict
from nextpage.interactions.log import BEHAVIOURS, Dataset
from nextpage.tokenizers.semantic_ids import SemanticIds

Pairs = list[tuple[str, str]]
"""Names of facts with their values, in words and figures."""

MOST_REASONS = 8


@dataclass(frozen=True, kw_only=True)
class RunArtifacts:
    """Paths of a run's artifacts.

    - `training_log`: JSON lines with step, loss, tokens_per_second, seconds since the line before, and where known
      learning_rate and mfu;
    - `metrics`: evaluate's metrics.json: `model`, `model_with_prior` where there is one, and `baselines.<name>`, each
      with "HR@10" …, `intervals`, `requests`, `new_items`, `beyond_accuracy`; `differences.<model>.<name>`;
    - `predictions`: the monitor's predictions for held-out pages; None where no release was asked;
    - `costs`: seconds and peak_memory_mb by step;
    - `drift`: the monitor's findings; None where nothing was monitored;
    - `alignment`: align's alignment.json; None where nothing was aligned.
    """

    name: str
    clean: Path
    quarantine: Path
    tokenizer: Path
    training_log: Path
    metrics: Path
    model_card: Path
    verdicts: tuple[Path, ...]
    costs: Mapping[str, Mapping[str, float]]
    release_hash: str
    predictions: Path | None = None
    drift: Path | None = None
    alignment: Path | None = None


def read_verdicts(artifacts: RunArtifacts) -> list[Verdict]:
    """In the order given; the monitor's own are in its findings."""
    verdicts = [Verdict.read(path) for path in artifacts.verdicts]
    if artifacts.drift is not None:
        known = {verdict.gate for verdict in verdicts}
        found = json.loads(artifacts.drift.read_text())["verdicts"]
        verdicts += [Verdict(**v | {"reasons": tuple(v["reasons"])}) for v in found if v["gate"] not in known]
    return verdicts


def read_log(clean: Path) -> dict[str, Any]:
    """Counts of the clean log: users, items, pages, events, first and last day (ISO, UTC), and events by behaviour."""
    import duckdb

    data = Dataset(folder=clean)
    with duckdb.connect() as connection:
        row = connection.execute(
            "SELECT count(DISTINCT user_id), count(DISTINCT (user_id, request_id)), count(*), "
            "min(epoch_us(timestamp)), max(epoch_us(timestamp)), "
            + ", ".join(f"count(*) FILTER (behaviour = '{name}')" for name in BEHAVIOURS)
            + f" FROM '{data.interactions}'"
        ).fetchone()
        items = connection.execute(f"SELECT count(*) FROM '{data.items}'").fetchone()
    assert row is not None
    assert items is not None
    users, pages, events, first, last, *behaviours = row
    return {
        "users": users,
        "items": items[0],
        "pages": pages,
        "events": events,
        "first": _date(first),
        "last": _date(last),
        "behaviours": dict(zip(BEHAVIOURS, behaviours, strict=True)),
        "split": data.split(),
    }


def _date(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).date().isoformat()


def read_quarantine(path: Path) -> list[tuple[str, int]]:
    """Rows set aside by reason, most first."""
    import duckdb

    with duckdb.connect() as connection:
        return connection.execute(
            f"SELECT reason, count(*) FROM read_parquet('{path}') GROUP BY reason ORDER BY count(*) DESC, reason"
        ).fetchall()


def read_codes(tokenizer: Path) -> list[np.ndarray]:
    """For each level the items a code has, int64 [codebook size]."""
    ids = SemanticIds.read(tokenizer / "semantic_ids.parquet")
    return [np.bincount(ids.codes[:, level], minlength=size) for level, size in enumerate(ids.sizes)]


def read_training(path: Path) -> dict[str, np.ndarray]:
    """The columns of the training log, float64 [S] each; NaN where a line lacks one."""
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"the training log {path} is empty: did training take a step?")
    names = dict.fromkeys(name for line in lines for name in line)
    return {
        name: np.array([value if isinstance(value := line.get(name), int | float) else np.nan for line in lines])
        for name in names
    }


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float | str | bool]]:
    """The leaves of nested figures under names in words; a short list as one value, a long one left out."""
    leaves: list[tuple[str, float | str | bool]] = []
    for name, value in values.items():
        title = f"{prefix} {name}".strip().replace("_", " ")
        if isinstance(value, Mapping):
            leaves += flat(value, title)
        elif isinstance(value, list):
            if len(value) <= 8 and all(isinstance(one, int | float) for one in value):
                leaves.append((title, " · ".join(figure(one) for one in value)))
            elif len(value) <= 8 and all(isinstance(one, Mapping) for one in value):
                for place, one in enumerate(value):
                    leaves += flat(one, f"{title} {place + 1}")
        elif value is not None:
            leaves.append((title, value))
    return leaves


def figure(value: float | str | bool) -> str:
    """A value as a person writes it: 1,234; 0.087; 12.3."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{value:,.0f}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 0.001 else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def seconds(value: float) -> str:
    """12 s, 3 min 20 s, 2 h 5 min."""
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
