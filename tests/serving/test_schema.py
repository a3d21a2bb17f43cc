import contextlib

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from nextpage.interactions.log import BEHAVIOURS
from serving.errors import InvalidRequest
from serving.schema import (
    FIELDS,
    HISTORY_FIELDS,
    REASONS,
    History,
    SlateRequest,
    parse_request,
    request_to_json,
)

NOW = 1_800_000_000
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAME = st.text(min_size=1, max_size=8)
HISTORY = st.dictionaries(st.sampled_from(HISTORY_FIELDS), st.lists(st.integers(0, NOW) | NAME, max_size=3) | JSON)
FILTERS = st.dictionaries(NAME, st.lists(NAME, min_size=1, max_size=2) | JSON, max_size=2)
REQUEST = st.dictionaries(st.sampled_from(FIELDS), JSON | HISTORY | FILTERS | st.sampled_from(("include", *REASONS)))


@st.composite
def requests(draw: st.DrawFn) -> SlateRequest:
    as_of = draw(st.integers(1000, NOW))
    history = None
    if draw(st.booleans()):
        count = draw(st.integers(0, 4))
        each = {"min_size": count, "max_size": count}
        history = History(
            items=tuple(draw(st.lists(NAME, **each))),
            behaviours=tuple(draw(st.lists(st.integers(0, len(BEHAVIOURS) - 1), **each))),
            pages=tuple(sorted(draw(st.lists(st.integers(0, 99), **each)))),
            times=tuple(sorted(draw(st.lists(st.integers(0, as_of - 1), **each)))),
        )
    return SlateRequest(
        request_id=draw(NAME),
        as_of=as_of,
        user_id=draw(NAME),
        history=history,
        k=draw(st.integers(1, 200)),
        exclude=tuple(draw(st.lists(NAME, max_size=3))),
        filters=draw(st.dictionaries(NAME, st.lists(NAME, min_size=1, max_size=2).map(tuple), max_size=2)),
        stock=draw(st.none() | st.lists(NAME, max_size=3).map(tuple)),
        seen=draw(st.sampled_from(("include", "exclude"))),
        fallback=draw(st.none() | st.sampled_from(REASONS)),
    )


@given(JSON | REQUEST)
@settings(max_examples=300, deadline=None)
def test_whatever_comes_is_understood_or_refused_in_a_sentence(raw: object) -> None:
    with contextlib.suppress(InvalidRequest):
        request = parse_request(raw, now=NOW, request_id="generated")
        assert 1 <= request.k <= 200
        assert request.user_id is not None or request.history is not None


@given(requests())
@settings(deadline=None)
def test_what_a_transformer_passes_on_is_what_it_was_asked(request: SlateRequest) -> None:
    passed = orjson.loads(orjson.dumps(request_to_json(request)))
    assert parse_request(passed, now=NOW, request_id="generated") == request


def test_defaults_of_a_bare_history() -> None:
    raw = {"history": {"items": ["a", "b", "c"], "times": [7, 7, 9]}, "as_of": 10}
    request = parse_request(raw, now=NOW, request_id="generated")
    assert request.history == History(items=("a", "b", "c"), behaviours=(2, 2, 2), pages=(0, 0, 1), times=(7, 7, 9))
    assert (request.request_id, request.k, request.seen, request.as_of) == ("generated", 10, "include", 10)
    untimed = parse_request({"history": {"items": ["a", "b"]}}, now=NOW, request_id="generated").history
    assert untimed is not None
    assert untimed.times == (NOW - 2, NOW - 1)
