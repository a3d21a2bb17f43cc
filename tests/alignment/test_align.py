"""The weights that go on after an alignment."""

import pytest
import torch

from nextpage.alignment.align import interpolated
from nextpage.alignment.config import AlignmentConfig


def test_weights_go_on_from_between_the_base_and_where_training_ended() -> None:
    base, trained = {"a": torch.tensor([0.0, 4.0])}, {"a": torch.tensor([1.0, 0.0])}
    assert interpolated(base, trained, 0.75)["a"].tolist() == [0.75, 1.0]
    assert torch.equal(interpolated(base, trained, 1.0)["a"], trained["a"])


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5])
def test_a_share_that_leads_nowhere_is_named(share: float) -> None:
    with pytest.raises(ValueError, match=f"interpolation is {share}"):
        AlignmentConfig(interpolation=share)
