"""One features folder for all tests that only read it, and copies for those that write."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.features.step import build_features
from nextpage.interactions.log import Dataset
from nextpage.interactions.slices import FeaturesConfig
from tests.synthetic import write_dataset

CONFIG = FeaturesConfig(events=32, stride=12)

NO_HISTORY = "v-no-history"
NO_DEMOGRAPHICS = "u000"
UNKNOWN_AGE = "u001"


@dataclass(frozen=True)
class House:
    dataset: Dataset
    features: Path


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A planted log with a user who did nothing, one of whom nothing is known, and one of unknown age."""
    folder = tmp_path_factory.mktemp("house")
    dataset = write_dataset(folder / "dataset", users=20, items=80)
    users = [row for row in pq.read_table(dataset.users).to_pylist() if row["user_id"] != NO_DEMOGRAPHICS]
    users = [{**row, "age": None} if row["user_id"] == UNKNOWN_AGE else row for row in users]
    users.append({"user_id": NO_HISTORY, "age": "25-34"})
    pq.write_table(pa.Table.from_pylist(users), dataset.users)
    build_features(dataset.folder, folder / "features", CONFIG, version="1")
    return House(dataset=dataset, features=folder / "features")


@pytest.fixture
def own_house(house: House, tmp_path: Path) -> House:
    """A copy of the house: in another place, and free to be changed."""
    return House(dataset=house.dataset, features=shutil.copytree(house.features, tmp_path / "moved"))
