"""Filters as requests bring them, and what is remembered of them."""

from typing import Any

import numpy as np
import pytest

from nextpage.decoding.served_catalogue import ServedCatalogue
from serving.catalogue import Catalogue
from serving.errors import InvalidRequest
from serving.schema import SlateRequest, parse_request
from tests.releases import ITEMS, items, semantic_ids


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue(ServedCatalogue.of(semantic_ids().only(np.arange(50)), items().slice(0, 50), departed=departed()))


def departed() -> Any:
    return semantic_ids().only(np.arange(50, ITEMS))


def asking(**fields: Any) -> SlateRequest:
    return parse_request({"history": {"items": ["i001"]}} | fields, now=10_000, request_id="r")


def left(catalogue: Catalogue, **fields: Any) -> set[str]:
    allowed = catalogue.allowed(asking(**fields))
    assert allowed is not None
    return {catalogue.item_ids[row] for row in np.flatnonzero(allowed.holds(np.arange(len(catalogue))))}


def counted(catalogue: Catalogue) -> tuple[int, int]:
    return catalogue._filters.hits, catalogue._filters.misses


def test_requests_share_a_filter_in_whatever_order_they_write_it(catalogue: Catalogue) -> None:
    one = left(catalogue, filters={"category": ["c0", "c1"]})
    assert left(catalogue, filters={"category": ["c1", "c0", "c1"]}) == one == set(catalogue.item_ids)
    assert counted(catalogue) == (1, 1)
    assert left(catalogue, filters={"category": ["c1"]}) < one
    assert counted(catalogue) == (1, 2)


def test_stock_is_part_of_what_is_shared_and_exclusions_are_not(catalogue: Catalogue) -> None:
    here = catalogue.item_ids[:6]
    assert left(catalogue, stock=here) == set(here)
    assert left(catalogue, stock=here[:5]) == set(here[:5])
    assert left(catalogue, stock=here, exclude=[here[2], "gone"]) == set(here) - {here[2]}
    assert left(catalogue, stock=here, history={"items": here[:4]}, seen="exclude") == set(here[4:])
    assert counted(catalogue) == (2, 2)
    assert left(catalogue, exclude=here) == set(catalogue.item_ids[6:])
    assert counted(catalogue) == (2, 2)


def test_departed_items_can_be_neither_in_stock_nor_in_need_of_hiding(catalogue: Catalogue) -> None:
    gone = departed().item_ids.tolist()
    assert left(catalogue, stock=[*gone, catalogue.item_ids[3]]) == {catalogue.item_ids[3]}
    assert left(catalogue, exclude=gone) == set(catalogue.item_ids)


def test_an_attribute_that_went_with_the_catalogue_before_is_a_bad_request(
    catalogue: Catalogue,
) -> None:
    with pytest.raises(InvalidRequest, match=r"filters\.colour is no attribute of the catalogue"):
        catalogue.allowed(asking(filters={"colour": ["red"]}))
