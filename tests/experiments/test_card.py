from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from nextpage.experiments.card import write_card, write_html
from nextpage.experiments.record import Record, Releases, make_record
from nextpage.experiments.summary import summarise
from tests.experiments.logs import make_rows, make_rule

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def record(day: int = 14, *, rule=None, **effects) -> Record:
    rule = rule or make_rule(segments=["tier"])
    rows = make_rows(1_500, seed=41, **effects)
    return make_record(rule, summarise(rows, rule, day), Releases(control="a" * 64, treatment="b" * 64), NOW)


class _Tags(HTMLParser):
    """Whether every tag that was opened is closed in turn, and what a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attributes):
        self.loads += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "html"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        if tag != "html":
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize(("effect", "verdict"), [(0.15, "PROMOTE"), (-0.3, "ROLLBACK"), (0.0, "ROLLBACK")])
def test_both_cards_open_with_the_verdict_and_give_its_reasons(effect, verdict):
    made = record(value=effect)
    card, page = write_card(made), _Tags()
    page.feed(write_html(made))
    assert card.startswith(f"# {verdict}: A/B test test\n")
    for reason in made.decision.reasons:
        assert reason in card
        assert reason in page.text
    assert not page.open
    assert page.loads == []


def test_a_card_names_rule_record_and_releases():
    made = record()
    card = write_card(made)
    for part in (made.rule_hash, made.hash, "a" * 12, "b" * 12, "minimum_effect: 0.05"):
        assert part in card


def test_a_card_shows_days_and_segments_and_says_that_they_do_not_decide():
    card = write_card(record(value=0.15))
    assert "| day 14 |" in card
    assert "| tier often |" in card
    assert "They decide nothing" in card


@pytest.mark.parametrize("day", [0, 1])
def test_there_is_a_card_before_there_is_anything_to_say(day):
    rule = make_rule(minimum_users=10_000)
    made = record(day, rule=rule)
    assert write_card(made).startswith("# HOLD")
    assert "No day has enough users" in write_html(made)


def test_every_table_of_a_card_has_rows_as_wide_as_its_head():
    lines = write_card(record(value=0.15)).splitlines()
    for above, below in pairwise(lines):
        if above.startswith("|") and below.startswith("|"):
            assert above.count("|") == below.count("|")


def test_names_from_a_rule_cannot_bring_markup_into_the_page():
    rule = make_rule(experiment="<script>alert(1)</script>")
    assert "<script>" not in write_html(record(rule=rule))
