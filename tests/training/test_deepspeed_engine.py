import pytest

from nextpage.objectives.next_token import NextToken
from nextpage.training.config import TrainingConfig
from nextpage.training.deepspeed_engine import make_engine
from tests.histories import small_decoder


def test_stage_0_in_bf16_is_refused_before_training_and_not_after_it() -> None:
    with pytest.raises(ValueError, match=r"zero_stage is 0 and bf16 is on: .* use zero_stage 1, or bf16 false"):
        make_engine(NextToken(small_decoder()), TrainingConfig(zero_stage=0, bf16=True))
