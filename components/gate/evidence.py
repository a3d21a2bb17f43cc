"""From the event log, or from a file, to what the two gates read."""

from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.deploy.config import RolloutConfig
from components.deploy.registration import Registration, catalogue
from nextpage.experiments.assignment import ARMS
from nextpage.experiments.canary import Answered
from serving.attribution import Attribution, attribute, popularity_ranks
from serving.attribution import evidence as rows_of
from serving.sinks import drain

FAILURES = ("errors", "fallbacks", "slow")  # of an evidence file


def evidence(config: RolloutConfig, found: Registration, now: datetime) -> tuple[pa.Table, int]:
    """Rows of `nextpage.experiments.evidence`, and the last whole day. Users who were put into an arm by hand are left
    out. An evidence file's days are all whole."""
    if config.events.endswith(".parquet"):
        rows = pq.read_table(config.events)
        day = pc.max(rows["day"]).as_py() or 0
    else:
        began, day_length = found.started, timedelta(seconds=config.day_s)
        catalogues = [pq.read_table(catalogue(Path(config.records), one)) for one in vars(found.releases).values()]
        rows = rows_of(
            attributed(config),
            began=began,
            day=day_length,
            slow_ms=config.slow_ms,
            popularity=popularity_ranks(catalogues),
            users=pq.read_table(config.users) if config.users else None,
        )
        day = max(0, (now - began) // day_length)
    return rows.filter(pc.invert(pc.is_in(rows["user_id"], pa.array(config.overrides, pa.string())))), day


def answered(config: RolloutConfig, found: Registration, since: datetime) -> tuple[Answered, Answered]:
    """Requests of control and treatment since then, and what went wrong with them.

    From the log, all that either release was asked, whoever asked; from an evidence file, all days of both arms.
    """
    if config.events.endswith(".parquet"):
        rows = pq.read_table(config.events)
        control, treatment = (_in_rows(rows.filter(pc.equal(rows["arm"], arm))) for arm in ARMS)
        return control, treatment
    attribution = attributed(config)
    asked = attribution.requests
    asked = asked.filter(pc.greater_equal(asked["time"], pa.scalar(since, asked["time"].type)))
    shown = attribution.exposures["request_id"].combine_chunks()
    return (
        _in_log(asked.filter(pc.equal(asked["release_hash"], found.releases.control)), shown, config.slow_ms),
        _in_log(asked.filter(pc.equal(asked["release_hash"], found.releases.treatment)), shown, config.slow_ms),
    )


def attributed(config: RolloutConfig) -> Attribution:
    """The event log, with what servers sent to the stream since."""
    if config.event_stream:
        drain(config.event_stream, Path(config.events))
    return attribute(Path(config.events), window=timedelta(seconds=config.attribution_window_s))


def _in_rows(rows: pa.Table) -> Answered:
    def total(column: str) -> int:
        return int(pc.sum(rows[column]).as_py() or 0)

    return Answered(requests=total("requests"), failures={name: total(name) for name in FAILURES})


def _in_log(asked: pa.Table, shown: pa.Array, slow_ms: float) -> Answered:
    served = pc.equal(asked["outcome"], "served")
    empty = pc.and_(served, pc.invert(pc.is_in(asked["request_id"], shown)))
    failures = {
        "errors": pc.equal(asked["outcome"], "failed"),
        "fallbacks": pc.equal(asked["outcome"], "fallback"),
        "slow": pc.greater(asked["latency_ms"], slow_ms),
        "empty slates": empty,
        "invalid items": pc.greater(asked["invalid_items"], 0),  # a request counts once: its items have one cause
    }
    return Answered(
        requests=len(asked), failures={name: int(pc.sum(which).as_py() or 0) for name, which in failures.items()}
    )
