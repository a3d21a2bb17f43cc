import json
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime

import pytest

from nextpage.experiments.gate import HOLD, PROMOTE
from nextpage.experiments.record import (
    RecordRefused,
    Releases,
    approve,
    make_record,
    read_record,
    reproduce,
    write_record,
)
from nextpage.experiments.summary import summarise
from tests.experiments.logs import make_rows, make_rule

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
RELEASES = Releases(control="a" * 64, treatment="b" * 64)
RULE = make_rule(promotion="approval", segments=["tier"])


@pytest.fixture(scope="module")
def rows():
    return make_rows(2_000, seed=31, value=0.15)


@pytest.fixture(scope="module")
def record(rows):
    return make_record(RULE, summarise(rows, RULE, 14), RELEASES, NOW)


def test_a_record_reproduces_its_decision_from_its_file_alone(record, tmp_path):
    read = read_record(write_record(record, tmp_path))
    assert read == record
    assert reproduce(read) == record.decision
    assert record.decision.verdict == HOLD


@pytest.mark.parametrize("day", [0, 3, 7])
def test_a_record_of_an_early_day_reproduces_too(rows, tmp_path, day):
    early = make_record(RULE, summarise(rows, RULE, day), RELEASES, NOW)
    assert reproduce(read_record(write_record(early, tmp_path))) == early.decision


def test_a_record_cannot_be_changed_in_memory(record):
    with pytest.raises(FrozenInstanceError):
        record.rule_hash = "other"
    with pytest.raises(FrozenInstanceError):
        record.decision.verdict = PROMOTE


def _paths(value, path=()):
    """Where every figure and word of a JSON document stands."""
    if isinstance(value, dict):
        return [deeper for key, inner in value.items() for deeper in _paths(inner, (*path, key))]
    if isinstance(value, list):
        return [deeper for place, inner in enumerate(value) for deeper in _paths(inner, (*path, place))]
    return [path]


def test_a_change_of_any_word_of_a_file_is_refused(record, tmp_path):
    text = write_record(record, tmp_path / "records").read_text()
    paths = _paths(json.loads(text))
    for path in paths[:: len(paths) // 60]:
        document = json.loads(text)
        inner = document
        for step in path[:-1]:
            inner = inner[step]
        old = inner[path[-1]]
        inner[path[-1]] = (not old) if isinstance(old, bool) else old + 1 if isinstance(old, int | float) else "changed"
        forged = tmp_path / "forged.json"
        forged.write_text(json.dumps(document))
        with pytest.raises(RecordRefused):
            read_record(forged)


def test_a_verdict_that_does_not_follow_from_its_evidence_is_refused_even_under_a_fitting_hash(record):
    forged = replace(record, decision=replace(record.decision, verdict=PROMOTE, cause="success"), hash="")
    forged = replace(forged, hash=forged.content_hash())
    with pytest.raises(RecordRefused, match=r"says PROMOTE \(success\), its evidence HOLD \(approval\)"):
        reproduce(forged)


def test_another_rule_under_the_old_hash_is_refused(record):
    forged = replace(record, rule=replace(record.rule, promotion="auto"), hash="")
    with pytest.raises(RecordRefused, match="not the one that it was made by"):
        reproduce(replace(forged, hash=forged.content_hash()))


def test_a_file_is_read_only_appears_once_and_is_never_replaced(record, tmp_path):
    path = write_record(record, tmp_path)
    assert write_record(record, tmp_path) == path
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.stat().st_mode & 0o222 == 0
    path.chmod(0o644)
    path.write_text("{}")
    with pytest.raises(RecordRefused):
        write_record(record, tmp_path)
    assert path.read_text() == "{}"


def test_a_rule_changed_after_the_start_is_refused(record, rows):
    changed = replace(RULE, alpha=0.2)
    with pytest.raises(RecordRefused, match="start a new experiment"):
        make_record(changed, summarise(rows, changed, 14), RELEASES, NOW, previous=record)


def test_other_releases_or_an_earlier_day_do_not_follow(record, rows):
    with pytest.raises(RecordRefused, match="the releases are not those"):
        make_record(RULE, record.summary, replace(RELEASES, treatment="c" * 64), NOW, previous=record)
    with pytest.raises(RecordRefused, match="day 13 comes before day 14"):
        make_record(RULE, summarise(rows, RULE, 13), RELEASES, NOW, previous=record)


def test_an_approval_promotes_and_names_who_and_what_it_approved(record, tmp_path):
    approved = approve(record, "Ada", NOW)
    assert approved.decision.verdict == PROMOTE
    assert (approved.approved_by, approved.previous) == ("Ada", record.hash)
    assert reproduce(read_record(write_record(approved, tmp_path))) == approved.decision


def test_only_what_waits_for_an_approval_can_be_approved(record, rows):
    undecided = make_record(RULE, summarise(rows, RULE, 3), RELEASES, NOW)
    with pytest.raises(RecordRefused, match=r"does not wait for an approval, it says HOLD \(undecided\)"):
        approve(undecided, "Ada", NOW)
    with pytest.raises(RecordRefused, match="needs a name"):
        approve(record, "", NOW)
    with pytest.raises(RecordRefused, match="does not wait"):
        approve(approve(record, "Ada", NOW), "Ada", NOW)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rule": {}}'])
def test_a_file_that_is_no_record_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(RecordRefused, match="cannot be read as a record"):
        read_record(tmp_path / "x.json")
