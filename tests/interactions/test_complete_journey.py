from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from nextpage.interactions.complete_journey import FILES, package_files
from nextpage.interactions.loaders import Source, load
from nextpage.interactions.log import INTERACTION_SCHEMA, Dataset

BASKET = "31254490800"  # household 1024, store 295, week 2
COUPON_BASKET = "33192141229"  # household 1024, on a day of a redemption


@pytest.fixture(scope="module")
def package(journey: Dataset) -> Iterator[duckdb.DuckDBPyConnection]:
    """The package's own tables beside the `log`, `items` and `users` made of them."""
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'America/New_York'")
        for name in FILES:
            connection.read_parquet(str(package_files() / f"{name}.parquet")).create_view(name)
        connection.read_parquet(str(journey.interactions)).create_view("log")
        connection.read_parquet(str(journey.items)).create_view("items")
        connection.read_parquet(str(journey.users)).create_view("users")
        yield connection


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """More households, without exposures."""
    options = {"households": 300, "exposed_per_page": 0}
    return load(Source(options=options), tmp_path_factory.mktemp("plain"))


def rows(package: duckdb.DuckDBPyConnection, query: str) -> list[tuple[object, ...]]:
    return list(package.execute(query).fetchall())


def test_the_log_has_the_one_schema(journey: Dataset) -> None:
    assert pq.read_schema(journey.interactions).equals(INTERACTION_SCHEMA)


def test_a_basket_is_a_page_of_what_was_bought_with_what_was_paid(package: duckdb.DuckDBPyConnection) -> None:
    bought = rows(
        package,
        f"""select product_id::varchar, sum(sales_value) from transactions where basket_id = {BASKET}
            and product_id::varchar in (select item_id from items) group by 1 order by 1""",
    )
    ordered = rows(
        package,
        f"select item_id, value from log where request_id = '{BASKET}' and behaviour = 'ordered' order by item_id",
    )
    assert ordered == bought
    assert len(bought) > 10


def test_a_page_has_the_basket_s_household_store_and_moment(package: duckdb.DuckDBPyConnection) -> None:
    assert rows(
        package, f"select distinct user_id, scenario, epoch(timestamp) from log where request_id = '{BASKET}'"
    ) == rows(
        package,
        f"""select distinct household_id::varchar, store_id::varchar, epoch(transaction_timestamp)
            from transactions where basket_id = {BASKET}""",
    )


def test_every_purchase_of_a_catalogue_product_is_in_the_log(package: duckdb.DuckDBPyConnection) -> None:
    [(missing,)] = rows(
        package,
        """select count(*) from transactions join users on household_id::varchar = user_id
           anti join (select * from log where behaviour = 'ordered') ordered
             on ordered.request_id = basket_id::varchar and ordered.item_id = product_id::varchar
           where product_id::varchar in (select item_id from items)""",
    )
    assert missing == 0


def test_exposed_products_were_promoted_in_that_store_and_week(package: duckdb.DuckDBPyConnection) -> None:
    [(exposures, promoted)] = rows(
        package,
        """with exposed as (
               select distinct item_id::bigint as product_id, store_id, week from log
               join (select distinct basket_id::varchar as request_id, store_id, week from transactions)
                 using (request_id)
               where behaviour = 'exposed')
           select (select count(*) from exposed), count(distinct (product_id, store_id, week))
           from promotions semi join exposed using (product_id, store_id, week)""",
    )
    assert exposures == promoted > 10_000


def test_clicked_products_are_covered_by_a_coupon_redeemed_that_day(package: duckdb.DuckDBPyConnection) -> None:
    clicks, covered = rows(
        package,
        """select count(*), count(coupons.product_id) from log left join (
               select distinct household_id, redemption_date::date as day, product_id
               from coupon_redemptions join coupons using (coupon_upc, campaign_id)
           ) coupons on household_id::varchar = user_id and product_id::varchar = item_id
                    and day = log.timestamp::date
           where behaviour = 'clicked'""",
    )[0]
    assert clicks == covered > 0


def test_clicks_are_the_most_ordered_of_the_covered_products_that_were_not_bought(
    package: duckdb.DuckDBPyConnection,
) -> None:
    expected = rows(
        package,
        f"""select product_id::varchar from (
                select distinct product_id from coupon_redemptions join coupons using (coupon_upc, campaign_id)
                where household_id = 1024 and redemption_date::date =
                      (select timestamp::date from log where request_id = '{COUPON_BASKET}' limit 1)
            ) join (select product_id, count(*) as orders from transactions where week < 50 group by 1
                    having orders >= 5) using (product_id)
            where product_id not in (select product_id from transactions where basket_id = {COUPON_BASKET})
            order by orders desc, product_id limit 4""",
    )
    clicked = rows(package, f"select item_id from log where request_id = '{COUPON_BASKET}' and behaviour = 'clicked'")
    assert set(clicked) == set(expected)
    assert len(clicked) == 4


def test_a_page_shows_an_item_once_and_keeps_its_bounds(package: duckdb.DuckDBPyConnection) -> None:
    pages = rows(
        package,
        """select count(*) - count(distinct item_id), count(*) filter (behaviour = 'exposed'),
                  count(*) filter (behaviour = 'clicked'), count(*) filter (behaviour = 'ordered')
           from log group by request_id""",
    )
    assert {repeated for repeated, *_ in pages} == {0}
    assert max(exposed for _, exposed, *_ in pages) == 4
    assert max(clicked for *_, clicked, _ in pages) == 4
    assert min(ordered for *_, ordered in pages) == 1


def test_exposures_of_one_store_and_week_differ_between_baskets(package: duckdb.DuckDBPyConnection) -> None:
    [(pages, different)] = rows(
        package,
        """select sum(pages), sum(different) from (
               select count(*) as pages, count(distinct shown) as different from (
                   select scenario, date_trunc('week', timestamp) as week, request_id,
                          list(item_id order by item_id) as shown
                   from log where behaviour = 'exposed' group by all)
               group by scenario, week having count(*) > 1)""",
    )
    assert different > 0.95 * pages


def test_pages_are_numbered_by_time_and_positions_by_intensity(package: duckdb.DuckDBPyConnection) -> None:
    wrong = rows(
        package,
        """with pages as (select distinct user_id, page, timestamp, request_id from log)
           select 'page' from pages qualify page <> row_number() over
               (partition by user_id order by timestamp, request_id) - 1
           union all
           select 'position' from log qualify position <> row_number() over (partition by request_id order by
               list_position(['ordered', 'clicked', 'exposed'], behaviour), item_id) - 1""",
    )
    assert wrong == []


def test_the_catalogue_is_what_was_bought_five_times_before_the_held_out_weeks(
    package: duckdb.DuckDBPyConnection,
) -> None:
    [(items, texts)] = rows(package, "select count(*), count(nullif(text, '')) from items")
    assert items == texts == 27_007
    [(bought,)] = rows(
        package,
        """select count(*) from (select product_id::varchar as item_id from transactions where week <= 49
           group by product_id having count(*) >= 5) semi join items using (item_id)""",
    )
    assert bought == 27_007


def test_an_item_s_text_says_type_category_department_brand_and_size(package: duckdb.DuckDBPyConnection) -> None:
    assert rows(package, "select text, category, package_size from items where item_id = '27479'") == [
        (
            "mainstream white bread baked bread/buns/rolls grocery private brand 20 oz",
            "BAKED BREAD/BUNS/ROLLS",
            "20 OZ",
        )
    ]


def test_users_bring_their_demographics_or_nulls(package: duckdb.DuckDBPyConnection) -> None:
    [(users, known, same)] = rows(
        package,
        """select count(*), count(users.income), count(*) filter (users.income = demographics.income)
           from users left join demographics on household_id::varchar = user_id""",
    )
    assert users == 40
    assert 0 < known == same < users


def test_the_split_falls_between_weeks_49_50_and_51_52(journey: Dataset, package: duckdb.DuckDBPyConnection) -> None:
    split = journey.split()
    assert split.validation_start == datetime(2017, 12, 4, 5, tzinfo=UTC)
    assert split.test_start == datetime(2017, 12, 18, 5, tzinfo=UTC)
    # the package's time stamps carry no zone and are in UTC
    weeks = rows(
        package,
        """select max(transaction_timestamp) filter (week = 49), min(transaction_timestamp) filter (week = 50),
                  max(transaction_timestamp) filter (week = 51), min(transaction_timestamp) filter (week = 52)
           from transactions""",
    )[0]
    before, first, last, after = (moment.replace(tzinfo=UTC) for moment in weeks)  # type: ignore[attr-defined]
    assert before < split.validation_start <= first
    assert last < split.test_start <= after


def test_loading_twice_gives_the_same_bytes(journey: Dataset, tmp_path: Path) -> None:
    again = load(Source(options={"households": 40}), tmp_path)
    for name in ("interactions.parquet", "items.parquet", "users.parquet", "split.json"):
        assert (again.folder / name).read_bytes() == (journey.folder / name).read_bytes()


def test_more_households_contain_the_fewer_and_no_exposures_may_be_asked(journey: Dataset, plain: Dataset) -> None:
    households = set(pq.read_table(plain.users)["user_id"].to_pylist())
    assert len(households) == 300
    assert households > set(pq.read_table(journey.users)["user_id"].to_pylist())
    assert set(pq.read_table(plain.interactions)["behaviour"].to_pylist()) == {"ordered", "clicked"}


def test_every_basket_of_a_day_of_a_redemption_has_clicks_by_the_shops_clock(
    plain: Dataset, package: duckdb.DuckDBPyConnection
) -> None:
    package.read_parquet(str(plain.interactions)).create_view("more")
    expected = rows(
        package,
        """with baskets as (select distinct user_id, request_id, timestamp::date as day from more)
           select distinct request_id from baskets
           join coupon_redemptions on household_id::varchar = user_id and redemption_date::date = day
           join coupons using (coupon_upc, campaign_id)
           join items on item_id = product_id::varchar
           where (request_id, item_id) not in
                 (select request_id, item_id from more where behaviour = 'ordered')
           order by 1""",
    )
    assert rows(package, "select distinct request_id from more where behaviour = 'clicked' order by 1") == expected
    assert len(expected) > 100
