"""A release at work: what it answers, and what its answers must not depend on."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextpage.decoding.filters import ItemFilter
from nextpage.interactions.sequences import Sequences
from nextpage.recipes import Recipe
from nextpage.recommender import Query, Recommendation, Recommender, load_recommender, write_parts
from nextpage.release import FeatureService, ReleaseRefused, seal
from nextpage.tokenizers.semantic_ids import SemanticIds
from tests.decoding.small import decoder

ITEMS, SIZES, BEAMS = 60, (4, 4, 4), 8
DAY, NOW = 86_400, 1_700_000_000
SERVICE = FeatureService(name="recommender_r1", hash="f00d")


def semantic_ids() -> SemanticIds:
    place = np.arange(ITEMS)
    codes = np.stack([place % 4, place // 4 % 4, place // 16], axis=1)
    return SemanticIds.sorted(np.array([f"i{row:02d}" for row in place], dtype=object), codes, SIZES)


def recipe(prior: float = 0.5) -> Recipe:
    decoding = {"beam_width": BEAMS, "prompt_items": 12, "batch": 4, "bf16": False}
    return Recipe(name="test", sections={"decoding": decoding, "repeat_prior": {"weight": prior}})


def items() -> pa.Table:
    return pa.table({"item_id": pa.array(semantic_ids().item_ids, pa.string()), "orders": np.arange(ITEMS) % 7})


@cache
def recommender(prior: float = 0.5) -> Recommender:
    model = decoder(SIZES)
    return Recommender(decoder=model, semantic_ids=semantic_ids(), items=items(), recipe=recipe(prior))


def query(item_ids: list[str], *, k: int = 5, allowed: ItemFilter | None = None) -> Query:
    """Ordered one a day, each on a page of its own."""
    events = len(item_ids)
    return Query(
        item_ids=item_ids,
        behaviours=[2] * events,
        pages=list(range(events)),
        times=[NOW - (events - place) * DAY for place in range(events)],
        as_of=NOW,
        k=k,
        allowed=allowed,
    )


def rows(answer: list[Recommendation]) -> list[int]:
    return [item.row for item in answer]


KNOWN = st.integers(0, ITEMS - 1).map(lambda row: f"i{row:02d}")
MASK = st.lists(st.booleans(), min_size=ITEMS, max_size=ITEMS).map(np.array)
FILTER = st.one_of(st.none(), MASK.map(ItemFilter.of))
QUERY = st.builds(query, st.lists(KNOWN, max_size=20), k=st.integers(1, ITEMS + 5), allowed=FILTER)


@settings(max_examples=30)
@given(QUERY)
def test_an_answer_holds_k_distinct_allowed_items_best_first(asked: Query) -> None:
    (answer,) = recommender().recommend([asked])
    allowed = (asked.allowed or ItemFilter()).holds(np.arange(ITEMS))
    assert len(set(rows(answer))) == len(answer) <= asked.k
    assert all(allowed[row] for row in rows(answer))
    assert len(answer) >= min(asked.k, BEAMS, allowed.sum())
    assert [item.item_id for item in answer] == [semantic_ids().item_ids[row] for row in rows(answer)]
    scores = [item.score for item in answer]
    assert scores == sorted(scores, reverse=True)
    assert all(score <= 1e-5 for score in scores)


@settings(max_examples=30)
@given(st.lists(QUERY, min_size=1, max_size=6))
def test_an_answer_is_the_same_whatever_queries_stand_beside_it(queries: list[Query]) -> None:
    together = recommender().recommend(queries)
    for asked, answer in zip(queries, together, strict=True):
        (alone,) = recommender().recommend([asked])
        assert rows(answer) == rows(alone)
        assert [item.score for item in answer] == pytest.approx([item.score for item in alone], abs=1e-4)


def test_a_neighbour_that_asks_for_more_than_the_beam_changes_nothing() -> None:
    narrow = [query([f"i{row:02d}", f"i{row + 9:02d}"], k=BEAMS) for row in range(20)]
    alone = [rows(answer) for answer in recommender().recommend(narrow)]
    wide = recommender().recommend([replace(asked, k=ITEMS) for asked in narrow])
    assert alone != [rows(answer)[:BEAMS] for answer in wide]  # a wider beam would have shown
    assert [rows(answer) for answer in recommender().recommend([*narrow, query(["i40"], k=ITEMS)])[:-1]] == alone


def test_a_small_k_is_the_beginning_of_a_larger_one_within_the_beam() -> None:
    few, all_of_the_beam = recommender().recommend([query(["i03"], k=3), query(["i03"], k=BEAMS)])
    assert few == all_of_the_beam[:3]


def test_as_many_as_there_are_can_be_asked_for_and_more_gives_no_more() -> None:
    (answer,) = recommender().recommend([query(["i03"], k=ITEMS + 40)])
    assert sorted(rows(answer)) == list(range(ITEMS))


def test_where_nothing_is_allowed_nothing_is_recommended() -> None:
    nothing = ItemFilter.of(np.zeros(ITEMS, dtype=bool))
    refused, answered = recommender().recommend([query(["i03"], allowed=nothing), query(["i03"])])
    assert refused == []
    assert len(answered) == 5


def test_unknown_items_are_passed_over() -> None:
    known = query(["i03", "i17", "i40"])
    times = [known.times[0], known.times[0] + 5, *known.times[1:], known.times[2] + 5]
    mixed = replace(
        known, item_ids=["i03", "new", "i17", "i40", "gone"], behaviours=[2] * 5, pages=[0, 0, 1, 2, 2], times=times
    )
    assert recommender().recommend([mixed]) == recommender().recommend([known])


def test_a_history_of_unknown_items_alone_is_an_empty_one_and_is_answered() -> None:
    unknown, empty = recommender().recommend([query(["new", "gone"]), query([])])
    assert unknown == empty
    assert len(empty) == 5


def test_no_queries_have_no_answers() -> None:
    assert recommender().recommend([]) == []


def test_with_a_prompt_cache_users_who_return_are_answered_as_without() -> None:
    """Short histories as those without a cache; one longer than the window as one that begins where it does."""
    cached = Recommender(decoder=decoder(SIZES), semantic_ids=semantic_ids(), items=items(), recipe=recipe())
    cached.cache_prompts(1 << 20, slack=8)
    bought = [f"i{row:02d}" for row in np.random.default_rng(0).permutation(ITEMS)]
    for events in (3, 5, 5, 11, 12):
        ours, alone = (
            each.recommend([query(bought[:events]), query(bought[20:27])]) for each in (cached, recommender())
        )
        for here, there in zip(ours, alone, strict=True):
            assert rows(here) == rows(there)
            assert [item.score for item in here] == pytest.approx([item.score for item in there], abs=1e-5)
    assert cached.prompt_cache is not None
    assert (cached.prompt_cache.hits, cached.prompt_cache.extensions, cached.prompt_cache.misses) == (5, 3, 2)
    for events in range(13, 40):
        cached.recommend([replace(query(bought[:events]), times=[NOW - ITEMS + place for place in range(events)])])
    assert cached.prompt_cache.extensions > 3 + 27 / 2  # most windows begin where the one before did


def histories(count: int = 11) -> tuple[Sequences, list[Query]]:
    """The same histories as a ranker reads them and as a server is asked; of many lengths, one is empty."""
    draw = np.random.default_rng(0)
    queries = [query([f"i{row:02d}" for row in draw.integers(0, ITEMS, number * 2)]) for number in range(count)]
    return recommender()._sequences(queries, recommender().catalogue), queries


@pytest.mark.parametrize("k", [5, BEAMS + 12])
def test_what_is_ranked_for_evaluation_is_what_is_recommended(k: int) -> None:
    prompts, queries = histories()
    ranked = recommender().rankings(prompts, k)
    answers = recommender().recommend([replace(asked, k=k) for asked in queries])
    assert ranked.with_prior.tolist() == [rows(answer) + [-1] * (k - len(answer)) for answer in answers]
    assert np.array_equal(recommender().rank(prompts, k), ranked.with_prior)


def test_the_model_alone_is_what_a_recipe_without_a_prior_recommends() -> None:
    prompts, _ = histories()
    alone, mixed = recommender(prior=0.0), recommender(prior=0.5)
    assert np.array_equal(mixed.rankings(prompts, 5).model, alone.rank(prompts, 5))
    assert not np.array_equal(mixed.rankings(prompts, 5).model, mixed.rank(prompts, 5))


def test_new_items_are_searched_for_among_those_that_the_history_lacks() -> None:
    prompts, queries = histories()
    ranked = recommender().rankings(prompts, BEAMS)
    for asked, new in zip(queries, ranked.new, strict=True):
        seen = {int(item_id[1:]) for item_id in asked.item_ids}
        lacking = np.array([int(item_id[1:]) not in seen for item_id in semantic_ids().item_ids])
        (answer,) = recommender().recommend([replace(asked, k=BEAMS, allowed=ItemFilter.of(lacking))])
        assert new.tolist() == rows(answer)
        assert lacking[new].all()


def test_free_codes_are_codes_of_their_level_as_many_as_asked() -> None:
    prompts, _ = histories()
    generated = recommender().generate_unconstrained(prompts, 6)
    assert generated.shape == (len(prompts), 6, len(SIZES))
    assert (generated >= 0).all()
    assert (generated < SIZES).all()
    assert all(len({tuple(code) for code in row}) == 6 for row in generated.tolist())


def test_the_most_ordered_items_are_the_popular_ones() -> None:
    orders = items()["orders"].to_numpy()[recommender().catalogue.popular]
    assert (np.diff(orders) <= 0).all()
    assert sorted(recommender().catalogue.popular) == list(range(ITEMS))


@pytest.fixture
def release(tmp_path: Path) -> Path:
    model = decoder(SIZES)
    write_parts(tmp_path, decoder=model, semantic_ids=semantic_ids(), items=items(), recipe=recipe())
    seal(tmp_path, name="r1", recipe="test", feature_service=SERVICE)
    return tmp_path


def test_a_release_that_was_written_and_loaded_answers_as_before(release: Path) -> None:
    loaded = load_recommender(release)
    asked = [query(["i03", "i17"]), query([], k=ITEMS)]
    assert loaded.recommend(asked) == recommender().recommend(asked)
    assert (loaded.release_name, loaded.feature_service, len(loaded.release_hash)) == ("r1", SERVICE, 64)


def test_a_changed_release_is_not_opened(release: Path) -> None:
    recipe(prior=0.9).write(release / "recipe.yaml")
    with pytest.raises(ReleaseRefused, match=r"recipe.yaml is not the file that release 'r1' was sealed with"):
        load_recommender(release)
