"""What a simulated user does with a slate, from what the real household really bought next.

By the position-based model, a user acts on an item where they look at its position and want the item:

    P(looked at | position p) = (1 ∕ (p + 1))^η, p from 0
    P(acted on) = P(looked at | p) · [the item is on the real next page]

(Craswell et al. 2008, "An Experimental Comparison of Click Position-Bias Models"; this decay: Joachims, Swaminathan,
Schnabel 2017, "Unbiased Learning-to-Rank with Biased Feedback"). What is looked at and not wanted is now and then
clicked by mistake. Every draw is seeded by the request's id, so that a replay of the same slates has the same feedback.

What it leaves out: a household buys on its next page what it bought, whatever it was shown. Nobody is talked into
anything here, so an effect is one on finding what was wanted, not on wanting.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from nextpage.interactions.log import BEHAVIOURS

EXPOSED, CLICKED, ORDERED = BEHAVIOURS


@dataclass(frozen=True, kw_only=True)
class UserConfig:
    """`position_bias` is η; at 0 every position is looked at. `stray_clicks`: the chance of a click on what is looked
    at and not wanted."""

    position_bias: float = 0.5
    stray_clicks: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        if self.position_bias < 0 or not 0 <= self.stray_clicks <= 1:
            raise ValueError(f"{self} cannot be: position_bias is 0 or more, stray_clicks a share")


@dataclass(frozen=True, kw_only=True)
class Page:
    """A real page that is about to be: who asks, the H events before it, and `wanted`, what was ordered on it, with the
    money that it brought. Times are seconds since 1970, behaviours as words."""

    user_id: str
    request_id: str
    as_of: int
    items: list[str]
    behaviours: list[str]
    pages: list[int]
    times: list[int]
    wanted: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Reaction:
    """One event of feedback; an order is a click too."""

    item_id: str
    behaviour: str
    value: float | None


def examination(positions: int, config: UserConfig) -> np.ndarray:
    """The chance that each position is looked at, float64 [positions]: the known propensities of all feedback."""
    return np.asarray(np.arange(1, positions + 1, dtype=np.float64) ** -config.position_bias)


def react(request_id: str, shown: Sequence[str], wanted: Mapping[str, float], config: UserConfig) -> list[Reaction]:
    """What comes of K items that were shown, in their order: at most one reaction an item."""
    digest = hashlib.sha256(f"{config.seed}\0{request_id}".encode()).digest()
    looks, strays = np.random.default_rng(int.from_bytes(digest[:8])).random((2, len(shown)))
    looked_at = looks < examination(len(shown), config)
    reactions = []
    for place in np.flatnonzero(looked_at):
        item = shown[int(place)]
        if item in wanted:
            reactions.append(Reaction(item_id=item, behaviour=ORDERED, value=wanted[item]))
        elif strays[place] < config.stray_clicks:
            reactions.append(Reaction(item_id=item, behaviour=CLICKED, value=None))
    return reactions


def read_pages(evaluation: Path, interactions: Path, history_events: int) -> Iterator[Page]:
    """The held-out pages in the order of time, each with the last `history_events` before it; pages without an order
    are left out, for nobody knows what was wanted there.

    `evaluation`: the table of a features folder; `interactions`: of the clean dataset. Cost: both tables in DuckDB, the
    pages themselves one by one.
    """
    import duckdb

    with duckdb.connect() as database:
        asked = {"evaluation": str(evaluation), "interactions": str(interactions), "events": history_events}
        rows = database.execute(_PAGES, asked)
        while row := rows.fetchone():
            user, request, as_of, items, behaviours, pages, times, wanted, values = row
            yield Page(
                user_id=user,
                request_id=request,
                as_of=as_of,
                items=items,
                behaviours=[BEHAVIOURS[code] for code in behaviours],
                pages=pages,
                times=times,
                wanted=dict(zip(wanted, values, strict=True)),
            )


def read_shoppers(interactions: Path, before: int) -> pa.Table:
    """What is known of each user before a moment, in seconds since 1970: `pre_orders` and `pre_requests` (pages), the
    covariates of CUPED, and `segment_shopper`: frequent for the half with the most pages, else occasional."""
    import duckdb

    with duckdb.connect() as database:
        asked = {"interactions": str(interactions), "before": before}
        return database.sql(_SHOPPERS, params=asked).to_arrow_table()


_PAGES = """
    with bought as (
        select user_id, request_id, item_id, coalesce(sum(value), 0) as value
        from read_parquet($interactions) where behaviour = 'ordered' group by all
    ), wanted as (
        select user_id, request_id, list(item_id order by item_id) as items, list(value order by item_id) as prices
        from bought group by all
    )
    select user_id, request_id, epoch_us(as_of) // 1_000_000, history_item[-$events:], history_behaviour[-$events:],
           history_page[-$events:], history_time[-$events:], items, prices
    from read_parquet($evaluation) join wanted using (user_id, request_id)
    order by as_of, user_id, request_id
"""

_SHOPPERS = """
    with known as (
        select user_id, count(*) filter (behaviour = 'ordered')::double as pre_orders,
               count(distinct request_id)::double as pre_requests
        from read_parquet($interactions) where epoch_us("timestamp") < $before::bigint * 1_000_000 group by user_id
    )
    select *, if(pre_requests >= median(pre_requests) over (), 'frequent', 'occasional') as segment_shopper
    from known order by user_id
"""
