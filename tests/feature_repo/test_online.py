import os
import threading
import time
from datetime import UTC, datetime

import pandas as pd
import pytest

from feature_repo.merge import Event, merge
from feature_repo.online import OnlineFeatures, OnlineStoreDown, ServiceMismatch
from feature_repo.service import HISTORY_FIELDS, service_hash
from feature_repo.store import offline, open_store
from nextpage.interactions.slices import FeaturesConfig
from tests.feature_repo.conftest import CONFIG, NO_DEMOGRAPHICS, NO_HISTORY, UNKNOWN_AGE, House

EMPTY: dict[str, list] = {name: [] for name in HISTORY_FIELDS}


def bought(user: str, item: str, second: int) -> Event:
    return Event(user_id=user, item_id=item, behaviour="ordered", timestamp=datetime.fromtimestamp(second, UTC))


def offline_rows(house: House, service: str, key: str, ids: list[str]) -> dict[str, dict]:
    """What the offline store says after the end of the log, as plain values."""
    store = open_store(house.features)
    asked = pd.DataFrame({key: ids, "event_timestamp": pd.Timestamp("2030-01-01", tz="UTC")})
    with offline(store):
        found = store.get_historical_features(entity_df=asked, features=store.get_feature_service(service)).to_arrow()
    return {row.pop(key): row for row in found.drop_columns("event_timestamp").to_pylist()}


def test_offline_and_online_agree_on_every_value_of_every_user_and_item(house):
    online = OnlineFeatures(house.features, version="1")
    users = [f"u{number:03d}" for number in range(20)] + [NO_HISTORY]
    items = [f"i{number:04d}" for number in range(80)]
    histories = offline_rows(house, "recommender_1", "user_id", users)
    profiles = offline_rows(house, "users_1", "user_id", users)
    catalogue = offline_rows(house, "items_1", "item_id", items)
    assert {user: online.history(user) for user in users} == histories
    assert {user: online.user_profile(user) for user in users} == profiles
    assert {item: online.item_profile(item) for item in items} == catalogue


def test_nulls_and_empty_lists_are_kept_apart(house):
    online = OnlineFeatures(house.features, version="1")
    assert online.history(NO_HISTORY) == EMPTY
    assert online.user_profile(NO_HISTORY) == {
        "age": "25-34",
        "page_count": 0,
        "exposed_count": 0,
        "clicked_count": 0,
        "ordered_count": 0,
        "first_time": None,
        "last_time": None,
    }
    for user in (NO_DEMOGRAPHICS, UNKNOWN_AGE):
        profile = online.user_profile(user)
        assert profile["age"] is None
        assert profile["page_count"] == 16


def test_whoever_was_never_seen_is_none(house):
    online = OnlineFeatures(house.features, version="1")
    assert online.history("nobody") is None
    assert online.user_profile("nobody") is None
    assert online.item_profile("nothing") is None


def test_a_pushed_event_is_seen_by_another_reader_within_a_second(own_house):
    writer, reader = (OnlineFeatures(own_house.features, version="1") for _ in range(2))
    before = reader.history("u003")
    new = bought("u003", "i0079", 1_800_000_000)
    writer.push([new])
    deadline = time.monotonic() + 1.0
    while (seen := reader.history("u003")) == before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert seen == merge(before, [new], last=CONFIG.events)
    assert seen["history_item"][-1] == "i0079"


def test_pushed_events_start_a_history_and_leave_others_alone(own_house):
    online = OnlineFeatures(own_house.features, version="1")
    other = online.history("u004")
    online.push([bought("new", "i0001", 20), bought(NO_HISTORY, "i0002", 30), bought("new", "i0003", 10)])
    online.push([bought("new", "i0001", 20)])
    assert online.history("new")["history_item"] == ["i0003", "i0001"]
    assert online.history(NO_HISTORY)["history_item"] == ["i0002"]
    assert online.history("u004") == other
    online.push([])


def test_threads_that_push_for_one_user_lose_nothing(own_house):
    online = OnlineFeatures(own_house.features, version="1")
    pushes = [
        threading.Thread(target=online.push, args=([bought("new", f"i{number:04d}", number)],)) for number in range(8)
    ]
    for push in pushes:
        push.start()
    for push in pushes:
        push.join()
    assert online.history("new")["history_item"] == [f"i{number:04d}" for number in range(8)]


def test_a_moved_folder_answers_the_same_from_any_working_directory(house, own_house, tmp_path, monkeypatch):
    expected = OnlineFeatures(house.features, version="1").history("u005")
    monkeypatch.chdir(tmp_path)
    relative = House(dataset=house.dataset, features=own_house.features.relative_to(tmp_path))
    assert OnlineFeatures(relative.features, version="1").history("u005") == expected
    (own_house.features / "history.parquet").rename(tmp_path / "aside")
    with pytest.raises(Exception, match=r"history\.parquet"):
        offline_rows(relative, "recommender_1", "user_id", ["u005"])
    (tmp_path / "aside").rename(own_house.features / "history.parquet")
    assert offline_rows(relative, "recommender_1", "user_id", ["u005"])["u005"] == expected
    assert os.getcwd() == str(tmp_path)


def test_a_lost_online_store_is_named(own_house):
    (own_house.features / "online.db").unlink()
    online = OnlineFeatures(own_house.features, version="1")
    with pytest.raises(OnlineStoreDown, match="online store does not answer"):
        online.history("u001")
    with pytest.raises(OnlineStoreDown, match="online store does not answer"):
        online.push([bought("u001", "i0001", 20)])


def test_the_release_finds_its_own_service_and_refuses_another(house):
    own = service_hash(events=CONFIG.events)
    assert OnlineFeatures(house.features, version="1", expected_hash=own).service_hash == own
    with pytest.raises(ServiceMismatch, match="train again"):
        OnlineFeatures(house.features, version="1", expected_hash=service_hash(events=FeaturesConfig().events))
    with pytest.raises(ServiceMismatch, match=r"'recommender_2' is not in the store, which has .*'recommender_1'"):
        OnlineFeatures(house.features, version="2")
