"""Histories out of a real Feast store: in process, and over HTTP from Feast's own feature server."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uvicorn
from feast.feature_server import get_app

from components.features.step import build_features
from feature_repo.online import OnlineFeatures
from feature_repo.store import open_store
from nextpage.interactions.slices import FeaturesConfig
from nextpage.release import FeatureService
from serving.history import FeastServerHistory, HistorySource, InProcessHistory, history_of
from serving.schema import History
from tests.serving.conftest import free_port
from tests.synthetic import write_dataset

VERSION, NEWCOMER = "1", "newcomer"


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house")
    dataset = write_dataset(folder / "dataset", users=6, items=40)
    users = [*pq.read_table(dataset.users).to_pylist(), {"user_id": NEWCOMER, "age": None}]
    pq.write_table(pa.Table.from_pylist(users), dataset.users)
    build_features(dataset.folder, folder / "features", FeaturesConfig(events=32, stride=12), version=VERSION)
    return folder / "features"


@pytest.fixture(scope="module")
def service(features: Path) -> FeatureService:
    return FeatureService(name=f"recommender_{VERSION}", hash=OnlineFeatures(features, version=VERSION).service_hash)


@pytest.fixture(scope="module")
def feast_server(features: Path) -> Iterator[str]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(get_app(open_store(features)), port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def read(source: HistorySource, *user_ids: str) -> list[History | None]:
    async def all_of_them() -> list[History | None]:
        return [await source.history(user_id) for user_id in user_ids]

    return asyncio.run(all_of_them())


def test_both_sources_give_what_the_store_holds(features: Path, service: FeatureService, feast_server: str) -> None:
    online = OnlineFeatures(features, version=VERSION)
    users = ("u000", "u003", NEWCOMER, "unknown")
    in_process = read(InProcessHistory(online.history, service), *users)
    assert read(FeastServerHistory(feast_server, service), *users) == in_process
    known, other, newcomer, unknown = in_process
    assert known == history_of(online.history("u000"))
    assert known is not None
    assert len(known.items) == 32
    assert known != other
    assert (newcomer, unknown) == (History(items=(), behaviours=(), pages=(), times=()), None)


def test_service_that_the_store_lacks_is_an_error_and_not_an_unknown_user(feast_server: str) -> None:
    source = FeastServerHistory(feast_server, FeatureService(name="recommender_of_another", hash="x"))
    with pytest.raises(httpx.HTTPStatusError):
        read(source, "u000")


def test_null_lists_are_an_empty_history_and_ragged_ones_are_refused() -> None:
    nulls = {"history_item": None, "history_behaviour": None, "history_page": None, "history_time": None}
    assert history_of(nulls).items == ()
    with pytest.raises(ValueError, match="2 items, 1 behaviours"):
        history_of({"history_item": ["a", "b"], "history_behaviour": [1], "history_page": [], "history_time": []})
