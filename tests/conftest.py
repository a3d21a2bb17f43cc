from pathlib import Path

import hypothesis
import pytest

from nextpage.interactions.log import Dataset
from tests.synthetic import write_dataset

# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile("nextpage", deadline=None)
hypothesis.settings.load_profile("nextpage")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """A small planted log; see tests/synthetic.py."""
    return write_dataset(tmp_path / "dataset")
