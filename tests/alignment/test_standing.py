"""Where a model stands, against the evaluation harness on the same ranking and against sums by hand."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from nextpage.alignment.generation import Generation
from nextpage.alignment.standing import CUTOFFS, HeldOut, Standing, stand
from nextpage.decoding.beam_search import generate
from nextpage.decoding.engines.eager import EagerEngine
from nextpage.decoding.prompts import prompts_of
from nextpage.decoding.repeat_prior import RepeatPriorConfig, mix_in_repeats
from nextpage.evaluation.bootstrap import BootstrapConfig
from nextpage.evaluation.hallucination import hallucination_rate
from nextpage.evaluation.harness import Report, evaluate
from nextpage.evaluation.metrics import DEPTH
from nextpage.evaluation.trial import read_trial
from nextpage.interactions.sequences import Sequences
from tests.alignment.small import ITEMS, generation, semantic_ids
from tests.synthetic import write_dataset

PRIOR = RepeatPriorConfig(weight=0.5)
BEAMS = 20
WORTH = np.random.default_rng(7).random(ITEMS)


def earned(prompts: Sequences, items: np.ndarray) -> np.ndarray:
    """Of the item and of whom it is for, so that a reward given to another's request shows."""
    own = np.array([int(user[1:]) for user in prompts.user_id]) + prompts.as_of % 1000 / 1000
    return (WORTH[items] * own[:, None]).astype(np.float32)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> HeldOut:
    """Sixteen requests with histories of several lengths."""
    dataset = write_dataset(tmp_path_factory.mktemp("log"), users=8, items=ITEMS)
    item_ids = pq.read_table(dataset.items)["item_id"].to_pylist()
    trial = read_trial(dataset, item_ids, split="validation", limit=None, relevant=("ordered",), recent_days=10)
    return HeldOut(
        trial=trial, prompts=trial.histories, prior=PRIOR, generated_beams=BEAMS, generated_requests=len(trial)
    )


@pytest.fixture(scope="module")
def model() -> Generation:
    return generation()


@pytest.fixture(scope="module")
def standing(model: Generation, held_out: HeldOut) -> Standing:
    return stand(model, held_out, earned)


def _report(model: Generation, held_out: HeldOut, *, mixed: bool) -> Report:
    def rank(prompts: Sequences, k: int) -> np.ndarray:
        found = model.beams(prompts, k)
        rows: np.ndarray = found.rows.numpy()
        return mix_in_repeats(rows, found.log_prob.numpy(), prompts, PRIOR, None)[0] if mixed else rows

    return evaluate("model", rank, held_out.trial, BootstrapConfig(resamples=2), prompts=held_out.prompts)


@pytest.mark.parametrize("mixed", [False, True])
def test_recall_and_the_rest_are_the_harness_figures_of_the_same_ranking(
    model: Generation, held_out: HeldOut, standing: Standing, mixed: bool
) -> None:
    report, kind = _report(model, held_out, mixed=mixed), "recommended " if mixed else ""
    for name, values in report.per_request.items():
        assert standing.by_request[f"{kind}{name}"].tolist() == values.tolist()
        assert standing.figures[f"{kind}{name}"] == pytest.approx(report.metrics[name].mean)
    if not mixed:
        assert standing.whole == {name: report.beyond_accuracy[name] for name in standing.whole}
    assert 0 < standing.figures[f"{kind}Recall@10"] < 1


def test_r_at_k_is_the_highest_reward_among_the_first_k_of_each_request(
    model: Generation, held_out: HeldOut, standing: Standing
) -> None:
    for row in range(len(held_out.trial)):
        prompt = held_out.prompts.take(np.array([row]))
        worth = earned(prompt, model.beams(prompt, DEPTH).rows.numpy())[0]
        for cutoff in CUTOFFS:
            assert standing.by_request[f"R@{cutoff}"][row] == pytest.approx(worth[:cutoff].max(), rel=1e-5)
        assert standing.by_request["reward@10"][row] == pytest.approx(worth[:10].mean(), rel=1e-5)


def test_the_hallucination_rate_is_that_of_the_best_tuples_without_the_trie(
    model: Generation, held_out: HeldOut, standing: Standing
) -> None:
    prompts = prompts_of(held_out.prompts, model.item_tokens, model.layout, model.prompt_items)
    codes = generate(EagerEngine(model.model), prompts, beam_width=BEAMS).codes.numpy()
    assert standing.figures["hallucination_rate"] == pytest.approx(hallucination_rate(codes, semantic_ids()))
    assert 0.5 < standing.figures["hallucination_rate"] < 1  # 90 of 1,728 tuples name an item


def test_only_so_many_requests_are_asked_without_the_trie_and_always_the_same(
    model: Generation, held_out: HeldOut, standing: Standing
) -> None:
    few = HeldOut(
        trial=held_out.trial, prompts=held_out.prompts, prior=PRIOR, generated_beams=BEAMS, generated_requests=7
    )
    found = stand(model, few, earned).invalid
    assert found.tolist() == stand(model, few, earned).invalid.tolist()
    assert found.tolist() == standing.invalid[np.linspace(0, len(held_out.trial) - 1, 7).astype(int)].tolist()


def test_requests_stand_in_the_trials_order_whatever_their_length(
    model: Generation, held_out: HeldOut, standing: Standing
) -> None:
    lengths = np.diff(held_out.prompts.offset)
    assert (np.diff(lengths) < 0).any()  # else asking by length would leave the order as it is
    for row in (0, 11, len(lengths) - 1):
        prompt = held_out.prompts.take(np.array([row]))
        assert standing.invalid[row] == model.invalid_share(prompt, BEAMS)[0]
