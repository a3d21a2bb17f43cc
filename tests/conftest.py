from pathlib import Path

import pytest

from nextpage.interactions.log import Dataset
from tests.synthetic import write_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """A small planted log; see tests/synthetic.py."""
    return write_dataset(tmp_path / "dataset")
