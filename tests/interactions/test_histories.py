from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest

from nextpage.interactions.histories import read_histories, requests, split_of_events, training_histories
from nextpage.interactions.log import BEHAVIOURS, Dataset, Split
from nextpage.interactions.splits import SPLITS, page_splits

Write = Callable[..., Dataset]
LEAVE_ONE_OUT = Split(kind="leave_one_out")
AT_100_AND_200 = Split(
    kind="time",
    validation_start=datetime.fromtimestamp(100, UTC),
    test_start=datetime.fromtimestamp(200, UTC),
)


def items_of(dataset: Dataset) -> list[str]:
    return [str(item) for item in pq.read_table(dataset.items)["item_id"].to_pylist()]


def test_histories_hold_every_event_of_the_catalogue_in_time_order(journey: Dataset) -> None:
    histories = read_histories(journey, items_of(journey))
    log = pq.read_table(journey.interactions).sort_by(
        [("user_id", "ascending"), ("timestamp", "ascending"), ("page", "ascending"), ("position", "ascending")]
    )
    items = np.asarray(items_of(journey), dtype=object)
    assert items[histories.item].tolist() == log["item_id"].to_pylist()
    assert np.asarray(BEHAVIOURS)[histories.behaviour].tolist() == log["behaviour"].to_pylist()
    assert np.repeat(histories.user_id, np.diff(histories.offset)).tolist() == log["user_id"].to_pylist()
    assert histories.page.tolist() == log["page"].to_pylist()
    assert histories.time.tolist() == [int(moment.timestamp()) for moment in log["timestamp"].to_pylist()]
    assert (histories.as_of == histories.time[histories.offset[1:] - 1] + 1).all()
    assert (histories.target_from == histories.as_of).all()


def test_items_outside_the_catalogue_are_left_out_and_numbers_are_places_in_it(written: Write) -> None:
    log = written(
        [("u", 0, "a", "ordered", 10), ("u", 1, "b", "ordered", 20), ("v", 0, "b", "clicked", 30)], AT_100_AND_200
    )
    histories = read_histories(log, ["z", "b"])
    assert histories.item.tolist() == [1, 1]
    assert histories.offset.tolist() == [0, 1, 2]
    assert read_histories(log, ["a"]).offset.tolist() == [0, 1, 1]
    assert read_histories(log, ["a"]).as_of.tolist() == [21, 31]


def test_a_time_split_begins_at_its_moments(written: Write) -> None:
    log = written(
        [("u", page, "a", "ordered", second) for page, second in enumerate([0, 99, 100, 199, 200, 300])],
        AT_100_AND_200,
    )
    expected = ["train", "train", "validation", "validation", "test", "test"]
    assert page_splits(log)["split"].to_pylist() == expected
    assert [SPLITS[code] for code in split_of_events(log, ["a"])] == expected


def test_leave_one_out_holds_out_the_last_pages_but_never_a_user_s_first(written: Write) -> None:
    pages = {"one": 1, "two": 2, "three": 3, "four": 4}
    log = written(
        [(user, page, "a", "ordered", 10 * page) for user, count in pages.items() for page in range(count)],
        LEAVE_ONE_OUT,
    )
    splits = page_splits(log).to_pylist()
    found = {user: [row["split"] for row in splits if row["user_id"] == user] for user in pages}
    assert found == {
        "one": ["train"],
        "two": ["train", "test"],
        "three": ["train", "validation", "test"],
        "four": ["train", "train", "validation", "test"],
    }


def test_leave_one_out_counts_pages_outside_the_catalogue(written: Write) -> None:
    log = written([("u", page, item, "ordered", page) for page, item in enumerate("aabz")], LEAVE_ONE_OUT)
    assert [SPLITS[code] for code in split_of_events(log, ["a", "b"])] == ["train", "train", "validation"]
    assert len(requests(log, ["a", "b"])) == 0
    assert requests(log, ["a", "b"]).dropped == 1


def test_training_histories_end_before_validation_and_are_to_be_learnt_whole(journey: Dataset) -> None:
    items = items_of(journey)
    train = training_histories(journey, items)
    start = journey.split().validation_start
    assert start is not None
    assert train.time.max() < start.timestamp()
    assert (train.as_of <= start.timestamp()).all()
    assert len(train.item) == (split_of_events(journey, items) == SPLITS.index("train")).sum()
    assert (np.diff(train.offset) > 0).all()
    assert (train.target_from == train.time[train.offset[:-1]]).all()
    assert (train.as_of == train.time[train.offset[1:] - 1] + 1).all()


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_prompt_is_all_that_lies_strictly_before_its_page(journey: Dataset, split: str) -> None:
    items = items_of(journey)
    asked = requests(journey, items, split=split)
    log = pq.read_table(journey.interactions).to_pylist()
    moment = {row["request_id"]: row["timestamp"] for row in log}
    assert len(asked) > 50
    for number in range(0, len(asked), 7):
        request, user = asked.request_id[number], asked.prompts.user_id[number]
        before = [row["item_id"] for row in log if row["user_id"] == user and row["timestamp"] < moment[request]]
        prompt = slice(*asked.prompts.offset[number : number + 2])
        assert [items[item] for item in asked.prompts.item[prompt]] == before
        assert asked.prompts.as_of[number] == moment[request].timestamp()
        truth = asked.truth_item[slice(*asked.truth_offset[number : number + 2])]
        assert {items[item] for item in truth} == {
            row["item_id"] for row in log if row["request_id"] == request and row["behaviour"] == "ordered"
        }
    assert (asked.prompts.time < np.repeat(asked.prompts.as_of, np.diff(asked.prompts.offset))).all()


def test_simultaneous_pages_do_not_see_each_other(written: Write) -> None:
    log = written(
        [("u", 0, "a", "ordered", 10), ("u", 1, "b", "ordered", 250), ("u", 2, "c", "ordered", 250)],
        AT_100_AND_200,
    )
    asked = requests(log, ["a", "b", "c"])
    assert asked.request_id.tolist() == ["u-1", "u-2"]
    assert asked.prompts.item.tolist() == [0, 0]


def test_a_first_page_is_asked_with_an_empty_prompt(written: Write) -> None:
    log = written([("u", 0, "a", "ordered", 10), ("v", 0, "b", "ordered", 250)], AT_100_AND_200)
    asked = requests(log, ["a", "b"])
    assert asked.prompts.user_id.tolist() == ["v"]
    assert asked.prompts.offset.tolist() == [0, 0]


def test_only_relevant_behaviours_are_the_truth_and_pages_without_any_are_counted(written: Write) -> None:
    log = written(
        [
            ("u", 0, "a", "ordered", 10),
            ("u", 1, "a", "ordered", 210),
            ("u", 1, "b", "clicked", 210),
            ("u", 1, "c", "exposed", 210),
            ("u", 2, "b", "exposed", 220),
        ],
        AT_100_AND_200,
    )
    asked = requests(log, ["a", "b", "c"])
    assert (asked.truth_item.tolist(), asked.dropped) == ([0], 1)
    assert requests(log, ["a", "b", "c"], relevant=("ordered", "clicked")).truth_item.tolist() == [0, 1]
    assert requests(log, ["a", "b", "c"], relevant=("exposed",)).truth_offset.tolist() == [0, 1, 2]


def test_an_item_is_true_once_a_page(written: Write) -> None:
    log = written([("u", 0, "b", "ordered", 210), ("u", 0, "a", "ordered", 210)] * 2, AT_100_AND_200)
    assert requests(log, ["a", "b"]).truth_item.tolist() == [0, 1]


def test_a_limit_takes_the_same_sample_every_time_and_smaller_ones_lie_in_larger_ones(journey: Dataset) -> None:
    items = items_of(journey)
    everything, twenty, ten = (requests(journey, items, limit=limit) for limit in (None, 20, 10))
    assert (len(twenty), len(ten)) == (20, 10)
    assert set(ten.request_id) < set(twenty.request_id) < set(everything.request_id)
    assert requests(journey, items, limit=20).request_id.tolist() == twenty.request_id.tolist()
    assert twenty.dropped == everything.dropped
    places = [everything.request_id.tolist().index(request) for request in twenty.request_id]
    assert places == sorted(places)
    assert places != list(range(20))
    truth = everything.truth_item[slice(*everything.truth_offset[places[3] : places[3] + 2])]
    assert twenty.truth_item[slice(*twenty.truth_offset[3:5])].tolist() == truth.tolist()


def test_unknown_splits_and_behaviours_are_named(journey: Dataset) -> None:
    with pytest.raises(ValueError, match="split 'tests' is unknown: use one of train, validation, test"):
        requests(journey, [], split="tests")
    with pytest.raises(ValueError, match=r"\['bought'\] are unknown: use some of exposed, clicked, ordered"):
        requests(journey, [], relevant=("bought",))


def test_an_empty_catalogue_gives_no_requests(journey: Dataset) -> None:
    asked = requests(journey, [])
    assert (len(asked), len(asked.prompts.item), asked.truth_offset.tolist()) == (0, 0, [0])
    assert asked.dropped > 50
