import numpy as np

from nextpage.decoding.filter_cache import FilterCache

ITEMS = 9
EACH = 4 * (ITEMS + 1)  # bytes of a filter


def ask(cache: FilterCache, *keys: int) -> None:
    """The filter of key n holds item n alone."""
    for key in keys:
        found = cache.get(key, lambda key=key: np.arange(ITEMS) == key)
        assert found.holds(np.arange(ITEMS)).tolist() == [row == key for row in range(ITEMS)]


def test_a_filter_is_made_once_while_it_is_kept() -> None:
    cache = FilterCache(3 * EACH)
    ask(cache, 0, 1, 0, 1, 1)
    assert (cache.hits, cache.misses, cache.nbytes) == (3, 2, 2 * EACH)


def test_where_the_bytes_are_spent_the_filter_that_was_not_asked_for_longest_goes() -> None:
    cache = FilterCache(2 * EACH)
    ask(cache, 0, 1, 0, 2)  # 1 has gone
    assert (cache.misses, cache.nbytes) == (3, 2 * EACH)
    ask(cache, 0, 2)
    assert cache.misses == 3
    ask(cache, 1)
    assert (cache.misses, cache.nbytes) == (4, 2 * EACH)


def test_a_filter_larger_than_the_cache_is_answered_and_not_kept() -> None:
    cache = FilterCache(EACH - 1)
    ask(cache, 0, 0)
    assert (cache.hits, cache.misses, cache.nbytes) == (0, 2, 0)
