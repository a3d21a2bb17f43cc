"""The join of the log, and the evidence from it, against a join by hand over random logs."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from nextpage.experiments.evidence import MEASURES, read_user_days
from nextpage.experiments.off_policy import OffPolicyConfig, doubly_robust, ips, snips
from serving.attribution import PRIOR_SHOWS, Attribution, attribute, evidence, logged_choices, popularity_ranks
from serving.events import EXPOSURES, REQUESTS, SCHEMAS

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
WINDOW = timedelta(seconds=6)
DAY = timedelta(seconds=5)
RANKS = {"a": 1.0, "b": 0.5, "c": 0.0}
Row = dict[str, Any]


def at(second: float) -> datetime:
    return BEGAN + timedelta(seconds=second)


def shown(request_id: str, second: float, items: Sequence[str], arm: str | None = "control", **more: Any) -> list[Row]:
    said = {"user_id": "u", "release_name": "r", "release_hash": "h", "degraded": False, "reason": None}
    said |= {"request_id": request_id, "arm": arm, "time": at(second), "score": -1.0, "propensity": 0.5, **more}
    return [said | {"position": position, "item_id": item_id} for position, item_id in enumerate(items)]


def said(
    request_id: str,
    item_id: str,
    behaviour: str,
    second: float,
    received: float | None = None,
    value: float | None = None,
) -> Row:
    heard = second if received is None else received
    return {
        "request_id": request_id,
        "item_id": item_id,
        "behaviour": behaviour,
        "time": at(second),
        "value": value,
        "received": at(heard),
    }


def asked(request_id: str, second: float, outcome: str = "served", latency_ms: float = 10.0, **more: Any) -> Row:
    row = {"request_id": request_id, "user_id": "u", "arm": "control", "release_name": "r", "release_hash": "h"}
    return row | {"time": at(second), "latency_ms": latency_ms, "outcome": outcome, **more}


def write(folder: Path, **rows: Sequence[Row]) -> Path:
    for kind, said in rows.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pylist(list(said), schema=SCHEMAS[kind])
        pq.write_table(table, folder / kind / f"{len(list((folder / kind).iterdir()))}.parquet")
    folder.mkdir(exist_ok=True)
    return folder


def outcomes(attribution: Attribution) -> list[tuple[Any, ...]]:
    columns = ["request_id", "item_id", "clicked", "ordered", "value"]
    return [tuple(row.values()) for row in attribution.exposures.select(columns).to_pylist()]


def counts(attribution: Attribution) -> tuple[int, int, int]:
    return attribution.late, attribution.duplicate, attribution.unmatched


def measured(attribution: Attribution, **options: Any) -> list[Row]:
    known = {"began": BEGAN, "day": DAY, "slow_ms": 100.0, "popularity": RANKS, "users": None}
    return evidence(attribution, **(known | options)).to_pylist()


def test_feedback_joins_by_request_and_item_and_an_order_is_a_click_too(tmp_path: Path) -> None:
    events = [said("1", "b", "ordered", 2, value=2.5), said("2", "a", "clicked", 2, value=9.0)]
    write(tmp_path, exposures=shown("1", 0, "ab") + shown("2", 1, "a"), feedback=events)
    found = attribute(tmp_path, window=WINDOW)
    assert outcomes(found) == [
        ("1", "a", False, False, None),
        ("1", "b", True, True, 2.5),
        ("2", "a", True, False, None),  # a value is an order's
    ]
    assert counts(found) == (0, 0, 0)


def test_late_duplicate_and_unmatched_feedback_counts_for_nothing_and_is_counted(tmp_path: Path) -> None:
    events = [
        said("1", "a", "ordered", 6, value=1.0),  # the last moment of the window
        said("1", "a", "ordered", 5, received=7, value=8.0),  # heard of later
        said("1", "b", "clicked", 6.000001),
        said("1", "z", "clicked", 1),
        said("9", "a", "clicked", 1),
    ]
    write(tmp_path, exposures=shown("1", 0, "ab"), feedback=events)
    found = attribute(tmp_path, window=WINDOW)
    assert outcomes(found) == [("1", "a", True, True, 1.0), ("1", "b", False, False, None)]
    assert counts(found) == (1, 1, 2)


def test_late_event_does_not_take_the_place_of_one_in_time_that_was_held_up(tmp_path: Path) -> None:
    events = [said("1", "a", "clicked", 8), said("1", "a", "clicked", 5, received=9)]
    found = attribute(write(tmp_path, exposures=shown("1", 0, "a"), feedback=events), window=WINDOW)
    assert outcomes(found) == [("1", "a", True, False, None)]
    assert counts(found) == (1, 0, 0)


def test_client_whose_clock_is_ahead_is_taken_at_the_servers_time(tmp_path: Path) -> None:
    write(tmp_path, exposures=shown("1", 0, "a"), feedback=[said("1", "a", "clicked", 50_000, received=1)])
    assert outcomes(attribute(tmp_path, window=WINDOW)) == [("1", "a", True, False, None)]


def test_slate_that_two_servers_answered_is_the_first(tmp_path: Path) -> None:
    second = shown("1", 1, "cd", release_hash="other")
    write(tmp_path, exposures=second, feedback=[said("1", "d", "clicked", 2), said("1", "a", "clicked", 2)])
    write(tmp_path, exposures=shown("1", 0, "ab"))
    found = attribute(tmp_path, window=WINDOW)
    assert outcomes(found) == [("1", "a", True, False, None), ("1", "b", False, False, None)]
    assert found.unmatched == 1


def test_log_without_rows_is_no_evidence_and_without_a_folder_an_error(tmp_path: Path) -> None:
    found = attribute(write(tmp_path / "log"), window=WINDOW)
    assert (found.exposures.num_rows, found.requests.num_rows, measured(found)) == (0, 0, [])
    with pytest.raises(FileNotFoundError, match="holds no event log"):
        attribute(tmp_path / "elsewhere", window=WINDOW)


def test_log_from_before_there_were_arms_is_read(tmp_path: Path) -> None:
    old = pa.Table.from_pylist(shown("1", 0, "a"), schema=EXPOSURES).drop_columns(["arm", "propensity"])
    (tmp_path / "exposures").mkdir()
    pq.write_table(old, tmp_path / "exposures" / "old.parquet")
    found = attribute(tmp_path, window=WINDOW)
    assert outcomes(found) == [("1", "a", False, False, None)]
    assert measured(found) == []  # no arm, so not analysed


def test_evidence_has_what_the_user_did_on_each_day(tmp_path: Path) -> None:
    write(
        tmp_path,
        exposures=shown("1", 4, "aza") + shown("2", 6, "b"),
        requests=[
            asked("1", 4, latency_ms=101.0, invalid_items=2),
            asked("2", 6, "fallback"),
            asked("3", 6, "failed", latency_ms=500.0),
            asked("4", -1, "failed"),  # before the experiment
        ],
        feedback=[said("1", "a", "clicked", 4.5), said("1", "z", "ordered", 6, value=2.0)],
    )
    rows = measured(attribute(tmp_path, window=WINDOW))
    nothing = {"user_id": "u", "arm": "control"} | dict.fromkeys(MEASURES, 0.0)
    first = {"requests": 1, "exposures": 3, "clicks": 1, "slow": 1, "latency_ms": 101}
    second = {"requests": 2, "exposures": 1, "clicks": 1, "orders": 1, "value": 2, "errors": 1, "fallbacks": 1}
    assert rows == [
        nothing | {"day": 1} | first | {"invalid_items": 1 + 2, "duplicates": 1, "popularity": 2.0},
        nothing | {"day": 2} | second | {"slow": 1, "latency_ms": 510, "popularity": 0.5},
    ]


def test_day_that_is_over_stays_as_it_is_whatever_comes_later(tmp_path: Path) -> None:
    exposures, first = shown("1", 1, "ab"), said("1", "a", "clicked", 2)
    write(tmp_path, exposures=exposures, feedback=[first], requests=[asked("1", 1)])
    before = measured(attribute(tmp_path, window=WINDOW))
    late_news = [said("1", "a", "ordered", 4, received=5.5, value=3.0), said("1", "b", "clicked", 3, received=9)]
    write(tmp_path, feedback=late_news)
    after = measured(attribute(tmp_path, window=WINDOW))
    assert after[:1] == before
    assert [(row["day"], row["clicks"], row["orders"], row["value"]) for row in after[1:]] == [(2, 1, 1, 3.0)]


def test_only_users_in_an_arm_are_in_the_evidence_and_what_is_known_of_them_stands_beside(tmp_path: Path) -> None:
    everyone = [
        asked(str(number), 1, user_id=user, arm=arm)
        for number, (user, arm) in enumerate(
            [("u", "control"), ("v", "treatment"), (None, "control"), ("w", None), ("x", "outside")]
        )
    ]
    users = pa.table({"user_id": ["u", "x"], "pre_value": [3, 4], "segment_home": ["flat", "house"]})
    table = evidence(
        attribute(write(tmp_path, requests=everyone), window=WINDOW),
        began=BEGAN,
        day=DAY,
        slow_ms=1.0,
        popularity={},
        users=users,
    )
    columns = ["user_id", "arm", "day", "pre_value", "segment_home"]
    assert [tuple(row.values()) for row in table.select(columns).to_pylist()] == [
        ("u", "control", 1, 3.0, "flat"),
        ("v", "treatment", 1, 0.0, "unknown"),
    ]
    days = read_user_days(table, ["slow", "requests"], before=["value"], segments=["home"], through_day=1)
    assert days.treated.tolist() == [False, True]
    assert days.values.tolist() == [[1.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"began": BEGAN.replace(tzinfo=None)}, "in no time zone: write 2026-01-01T00:00:00\\+00:00"),
        ({"users": pa.table({"user_id": ["u"], "age": [3]})}, "column 'age' of the users is no pre_"),
        ({"users": pa.table({"user_id": ["u", "u"], "pre_value": [3, 4]})}, "a user twice"),
    ],
)
def test_evidence_refuses_what_it_would_misread(tmp_path: Path, options: Row, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        measured(attribute(write(tmp_path), window=WINDOW), **options)


def test_popularity_ranks_items_of_both_releases_by_their_orders() -> None:
    control = pa.table({"item_id": ["a", "b", "c"], "orders": [9, 5, 5]})
    treatment = pa.table({"item_id": ["a", "d"], "orders": [9, 0]})
    assert popularity_ranks([control, treatment]) == {"a": 1.0, "b": 0.5, "c": 0.5, "d": 0.0}


def test_logged_slates_that_were_drawn_estimate_what_another_release_would_earn(tmp_path: Path) -> None:
    """Items a, b and c are drawn with .5, .3 and .2, clicked with .1, .5 and .9; the other shows c twice as often."""
    draw = np.random.default_rng(0)
    chances, clicks, target = [0.5, 0.3, 0.2], [0.1, 0.5, 0.9], [0.3, 0.3, 0.4]
    exposures, feedback = [], []
    for number in range(4_000):
        place = draw.choice(3, p=chances)
        exposures += shown(str(number), 0, "abc"[place], user_id=None, propensity=chances[place])
        if draw.random() < clicks[place]:
            feedback.append(said(str(number), "abc"[place], "clicked", 1))
    exposures += shown("popular", 0, "a", propensity=None) + shown("not asked", 0, "a")
    found = attribute(write(tmp_path, exposures=exposures, feedback=feedback), window=WINDOW)
    told = [
        {"request_id": str(number), "item_id": item_id, "probability": chance}
        for number in [*range(4_000), "popular"]
        for item_id, chance in zip("abc", target, strict=True)
    ]
    choices = logged_choices(found.exposures, pa.Table.from_pylist(told))
    assert len(choices.reward) == 4_000
    estimates = [estimator(choices, OffPolicyConfig(level=0.99)) for estimator in (ips, snips, doubly_robust)]
    for estimate in estimates:
        assert estimate.low < np.dot(target, clicks) < estimate.high
    widths = [estimate.high - estimate.low for estimate in estimates]
    assert widths[2] < 0.9 * widths[1] < widths[0] < 0.08  # what is known of the items narrows the interval


def test_an_items_guessed_reward_is_that_of_other_users_and_the_rest_is_worth_the_mean(tmp_path: Path) -> None:
    """Of two halves of users, one clicks on a alone and always, the other never."""
    users = [f"u{number}" for number in range(40)]
    exposures = [row for user in users for row in shown(user, 0, "ab", user_id=user, propensity=0.5)]
    half = dict(
        zip(
            users,
            duckdb.sql("select hash(unnest($users)) % 2", params={"users": users}).fetchnumpy().popitem()[1],
            strict=True,
        )
    )
    feedback = [said(user, "a", "clicked", 1) for user in users if half[user]]
    found = attribute(write(tmp_path, exposures=exposures, feedback=feedback), window=WINDOW)
    told = [{"request_id": user, "item_id": "a", "probability": 0.3} for user in users]
    choices = logged_choices(found.exposures, pa.Table.from_pylist(told))
    shows = sum(half.values())
    seen_by_others = {0: (shows + PRIOR_SHOWS / 2) / (shows + PRIOR_SHOWS), 1: 0.0}  # a; half of the shows were clicked
    for user, item, predicted, expected in zip(
        choices.cluster, "ab" * 40, choices.predicted, choices.expected, strict=True
    ):
        if item == "a":
            assert predicted == pytest.approx(seen_by_others[half[user]])
        rate = 0.5 if not half[user] else 0.0
        assert expected == pytest.approx(0.3 * seen_by_others[half[user]] + 0.7 * rate)


@some.composite
def logs(draw: some.DrawFn) -> dict[str, list[Row]]:
    """Slates of few requests, some answered by two servers, and feedback on them and on others, early and late."""
    second = some.integers(0, 14)
    exposures = [
        row
        for request_id in draw(some.lists(some.sampled_from("12345"), max_size=6))
        for row in shown(
            request_id,
            draw(second),
            draw(some.lists(some.sampled_from("abcz"), min_size=1, max_size=4)),
            arm={"1": "control", "2": "treatment", "3": "control", "4": None, "5": "treatment"}[request_id],
            user_id={"1": "u", "2": "v", "3": "w", "4": "u", "5": None}[request_id],
            release_hash=draw(some.sampled_from("gh")),
        )
    ]
    heard = some.builds(
        said,
        some.sampled_from("123456"),
        some.sampled_from("abcz"),
        some.sampled_from(["clicked", "ordered"]),
        second,
        second,
        some.sampled_from([None, 1.0, 2.0]),
    )
    asks = some.builds(
        asked,
        some.sampled_from("123"),
        some.integers(-3, 14),
        some.sampled_from(["served", "fallback", "failed"]),
        some.sampled_from([5.0, 100.0, 150.0]),
        invalid_items=some.sampled_from([None, 0, 2]),
    )
    return {
        "exposures": exposures,
        "feedback": draw(some.lists(heard, max_size=12)),
        "requests": draw(some.lists(asks, max_size=5)),
    }


def distinct(rows: Sequence[Row]) -> list[Row]:
    return [dict(row) for row in {tuple(row.items()) for row in rows}]


def by_hand(log: dict[str, list[Row]]) -> tuple[list[Row], Counter[str]]:
    """The slates' rows with what came of them, and the feedback by fate."""
    first = {row["request_id"]: row["time"] for row in sorted(log["exposures"], key=lambda row: row["time"])[::-1]}
    slates: dict[str, dict[int, Row]] = defaultdict(dict)
    for row in sorted(log["exposures"], key=lambda row: (row["release_hash"], row["item_id"])):
        if row["time"] == first[row["request_id"]]:
            slates[row["request_id"]].setdefault(row["position"], row | {"clicked_at": None, "ordered_at": None})
    fates: Counter[str] = Counter()
    counted = set()
    for event in sorted(
        distinct(log["feedback"]), key=lambda row: (row["received"], row["time"], row["value"] or 99.0)
    ):
        named = [row for _, row in sorted(slates[event["request_id"]].items()) if row["item_id"] == event["item_id"]]
        key = (event["request_id"], event["item_id"], event["behaviour"])
        if not named:
            fates["unmatched"] += 1
        elif min(event["time"], event["received"]) > named[0]["time"] + WINDOW:
            fates["late"] += 1
        elif key in counted:
            fates["duplicate"] += 1
        else:
            fates["counted"] += 1
            counted.add(key)
            named[0]["clicked_at"] = min(filter(None, [named[0]["clicked_at"], event["received"]]))
            if event["behaviour"] == "ordered":
                named[0] |= {"ordered_at": event["received"], "value": event["value"]}
    return [row for slate in slates.values() for _, row in sorted(slate.items())], fates


def summed_by_hand(rows: list[Row], log: dict[str, list[Row]]) -> dict[tuple[str, str, int], Counter[str]]:
    sums: dict[tuple[str, str, int], Counter[str]] = defaultdict(Counter)

    def add(row: Row, moment: datetime, **measures: float) -> None:
        if row["user_id"] and row["arm"] and row["time"] >= BEGAN:
            day = (max(moment, row["time"]) - BEGAN) // DAY + 1
            sums[row["user_id"], row["arm"], day].update(measures)

    seen: set[tuple[str, str]] = set()
    for row in rows:
        item = (row["request_id"], row["item_id"])
        rank = RANKS.get(row["item_id"])
        add(row, row["time"], exposures=1, invalid_items=rank is None, popularity=rank or 0, duplicates=item in seen)
        seen.add(item)
        if row["clicked_at"]:
            add(row, row["clicked_at"], clicks=1)
        if row["ordered_at"]:
            add(row, row["ordered_at"], orders=1, value=row["value"] or 0)
    for row in distinct(log["requests"]):
        failed, fallback = row["outcome"] == "failed", row["outcome"] == "fallback"
        slow, invalid = row["latency_ms"] > 100, row["invalid_items"] or 0
        add(row, row["time"], requests=1, errors=failed, fallbacks=fallback, slow=slow, latency_ms=row["latency_ms"])
        add(row, row["time"], invalid_items=invalid)
    return sums


@settings(max_examples=25, deadline=None)
@given(logs())
def test_attribution_and_evidence_are_those_by_hand_and_files_read_twice_change_nothing(
    log: dict[str, list[Row]],
) -> None:
    with TemporaryDirectory() as folder:
        once = attribute(write(Path(folder), **log), window=WINDOW)
        write(Path(folder), **{kind: rows[::-1] for kind, rows in log.items()})
        twice = attribute(Path(folder), window=WINDOW)
    rows, fates = by_hand(log)
    found = {(row["request_id"], row["position"]): row for row in once.exposures.to_pylist()}
    assert len(found) == once.exposures.num_rows == len(rows)
    for row in rows:
        same = found[row["request_id"], row["position"]]
        names = ("item_id", "time", "release_hash", "clicked_at", "ordered_at")
        assert [same[name] for name in names] == [row[name] for name in names]
        assert (same["clicked"], same["ordered"]) == (row["clicked_at"] is not None, row["ordered_at"] is not None)
        assert same["value"] == row.get("value")
    assert counts(once) == (fates["late"], fates["duplicate"], fates["unmatched"])
    assert once.requests.num_rows == len(distinct(log["requests"]))

    expected = summed_by_hand(rows, log)
    measures = {(row["user_id"], row["arm"], row["day"]): row for row in measured(once)}
    assert set(measures) == set(expected)
    for key, sums in expected.items():
        assert {name: measures[key][name] for name in MEASURES} == {name: float(sums[name]) for name in MEASURES}

    assert twice.exposures.equals(once.exposures)
    assert twice.requests.equals(once.requests)
    assert counts(twice) == counts(once)


def test_tables_have_the_columns_that_are_promised(tmp_path: Path) -> None:
    found = attribute(write(tmp_path, exposures=shown("1", 0, "a"), requests=[asked("1", 0)]), window=WINDOW)
    assert found.exposures.schema.names[: len(EXPOSURES)] == EXPOSURES.names
    assert found.requests.schema == REQUESTS
