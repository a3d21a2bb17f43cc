"""Before a release is deployed: is it worse on what the serving release logged?

The release answers the newest logged requests anew: how likely it finds each item that was shown, and what it would
rather show. Weighed by how likely the serving release had found them, the clicks say what it would have earned. Harm
that is shown stops it, nothing else: most logs say nothing, for slates are the k best and no draw, and whether a
release is better is for its users to say.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from components.deploy.config import RolloutConfig
from components.gate.evidence import attributed
from components.release.step import RULE
from nextpage.experiments.off_policy import (
    OffPolicyConfig,
    OffPolicyEstimate,
    doubly_robust,
    ips,
    off_policy_harm,
    snips,
)
from nextpage.experiments.rule import read_rule
from nextpage.gates import Verdict
from nextpage.interactions.log import BEHAVIOURS
from serving.attribution import Attribution, logged_choices
from serving.rollout.state import State

if TYPE_CHECKING:
    from serving.slates import SlateMaker

GATE = "off-policy harm"
EVENTS = 512  # of a history, the newest
LIKELY = 50  # items that the release would rather show, for the guess of the doubly robust estimate
BATCH = 64
TARGET = pa.schema([("request_id", pa.string()), ("item_id", pa.string()), ("probability", pa.float64())])


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """`estimates`: none where the log holds nothing to estimate from."""

    verdict: Verdict
    config: OffPolicyConfig
    requests: int = 0
    estimates: tuple[OffPolicyEstimate, ...] = ()


def weigh(
    config: RolloutConfig, state: State, release: Path, interactions: Path, now: datetime | None = None
) -> Weighed:
    """The release in `release` on the log of the stable one. `interactions`: of the clean dataset, for the histories;
    requests of users who have none there are left out. Cost: two searches for each of `logged_requests` requests."""
    rule, now = bounds(release), now or datetime.now(UTC)
    if state.stable is None or not Path(config.events).is_dir():
        return _nothing("no release served before, or there is no event log", rule)
    shown, asked = _asked(config, attributed(config), state.stable.hash, interactions, now)
    if not asked:
        return _nothing(f"no request of a known user that {state.stable.name} answered is in the log", rule)
    from nextpage.recommender import load_recommender
    from serving.slates import SlateMaker

    try:
        choices = logged_choices(shown, _target(SlateMaker(load_recommender(release)), shown, asked))
        estimates = tuple(estimate(choices, rule) for estimate in (ips, snips, doubly_robust))
    except ValueError as nothing:
        return _nothing(str(nothing), rule)
    return Weighed(verdict=off_policy_harm(estimates, rule), config=rule, requests=len(asked), estimates=estimates)


def bounds(release: Path) -> OffPolicyConfig:
    """How much fewer clicks per item are borne: as by the rule's guardrail on them, where it has one."""
    if not (release / RULE).is_file():
        return OffPolicyConfig()
    rule = read_rule(release / RULE)
    margins = [
        guardrail.margin
        for guardrail in rule.guardrails
        if rule.metric(guardrail.metric).measures == ("clicks", "exposures") and not guardrail.absolute
    ]
    return OffPolicyConfig(margin=margins[0]) if margins else OffPolicyConfig()


def card(weighed: Weighed) -> str:
    """In Markdown."""
    said = "Not worse, as far as the log can tell" if weighed.verdict.passed else "HOLD: worse on the log"
    reasons = "\n".join(f"- {reason}" for reason in weighed.verdict.reasons)
    if not weighed.estimates:
        return f"# Nothing to weigh\n\n{reasons}\n"
    rows = "\n".join(
        f"| {one.estimator} | {one.value:.4f} ({one.low:.4f} to {one.high:.4f}) | {one.logged:.4f} "
        f"| {one.difference:+.4f} ({one.difference_low:+.4f} to {one.difference_high:+.4f}) |"
        for one in weighed.estimates
    )
    first = weighed.estimates[0]
    return (
        f"# {said}\n\n{reasons}\n\n"
        f"Clicks per item that the release would have earned on {weighed.requests:,} requests which the serving one "
        f"answered; 95% intervals.\n\n| | new release | as logged | difference |\n|---|---|---|---|\n{rows}\n\n"
        f"The log is worth {first.effective_rows:,.0f} rows of the release's own, {weighed.config.fewest:,.0f} are "
        f"asked; the weights' mean is {first.mean_weight:.3f} ± {first.mean_weight_error:.3f}, it should be 1. It is "
        f"stopped where each difference is shown to lie below {-weighed.config.margin:.0%} of what was logged.\n"
    )


def _nothing(reason: str, config: OffPolicyConfig) -> Weighed:
    return Weighed(verdict=Verdict(gate=GATE, passed=True, reasons=(reason,)), config=config)


def _asked(
    config: RolloutConfig, found: Attribution, stable: str, interactions: Path, now: datetime
) -> tuple[pa.Table, list[dict[str, Any]]]:
    """The exposures of the newest requests whose feedback is complete, and each request with the history before it."""
    ends = now - timedelta(seconds=config.attribution_window_s)
    with duckdb.connect() as database:
        database.register("exposures", found.exposures)
        database.register("requests", found.requests)
        given = {"stable": stable, "ends": ends, "most": config.logged_requests}
        shown = database.sql(_SHOWN, params=given).to_arrow_table()
        database.register("shown", shown)
        asked = database.sql(_HISTORIES, params={"interactions": str(interactions), "events": EVENTS})
        return shown, asked.to_arrow_table().to_pylist()


def _target(slates_of: "SlateMaker", shown: pa.Table, asked: list[dict[str, Any]]) -> pa.Table:
    """`request_id`, `item_id`, `probability` by the release: of what was shown, and of what it would rather show."""
    from serving.schema import History, SlateRequest

    items: dict[str, list[str]] = {}
    for request, item_id in zip(shown["request_id"].to_pylist(), shown["item_id"].to_pylist(), strict=True):
        items.setdefault(request, []).append(item_id)

    def requests(*, exact: bool) -> Iterator[SlateRequest]:
        """With what was shown as the whole stock, the search finds each of these items."""
        for one in asked:
            behaviours = tuple(BEHAVIOURS.index(name) for name in one["behaviours"])
            events = {name: tuple(one[name]) for name in ("items", "pages", "times")}
            stock = tuple(items[one["request_id"]]) if exact else None
            yield SlateRequest(
                request_id=one["request_id"],
                as_of=one["as_of"],
                history=History(**events, behaviours=behaviours),
                k=len(stock) if stock else LIKELY,
                stock=stock,
            )

    found: dict[tuple[str, str], float] = {}
    every = chain(requests(exact=True), requests(exact=False))
    while batch := list(islice(every, BATCH)):
        for slate in slates_of.slates(batch):
            for item in () if slate.degraded else slate.items:
                found.setdefault((slate.request_id, item.item_id), min(1.0, math.exp(item.score)))
    columns = zip(*((*key, probability) for key, probability in found.items()), strict=True)
    return pa.table(list(columns) or [[], [], []], schema=TARGET)


_SHOWN = """
    with newest as (
        select request_id, any_value(coalesce(as_of, time)) as as_of from requests
        where release_hash = $stable and outcome = 'served' and user_id is not null and time < $ends
        group by request_id order by max(time) desc limit $most
    )
    select exposures.*, as_of from exposures join newest using (request_id)
    where release_hash = $stable and propensity > 0 order by request_id, position
"""

_HISTORIES = """
    select request_id, epoch_us(as_of) // 1_000_000 as as_of, list(item_id order by moment)[-$events:] as items,
           list(behaviour order by moment)[-$events:] as behaviours, list(page order by moment)[-$events:] as pages,
           list(epoch_us("timestamp") // 1_000_000 order by moment)[-$events:] as times
    from (select distinct request_id, user_id, as_of from shown)
    join (
        select user_id, item_id, behaviour, page, "timestamp",
               row_number() over (partition by user_id order by "timestamp", page, position) as moment
        from read_parquet($interactions)
    ) using (user_id)
    where "timestamp" < as_of group by request_id, as_of order by request_id
"""
