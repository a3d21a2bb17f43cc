"""What every ranker is measured on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nextpage.evaluation.counts import Counts, count
from nextpage.evaluation.slices import Slice, by_attribute, by_history_length, by_item_training, by_user_training
from nextpage.evaluation.truth import Truth, seen_before
from nextpage.interactions.histories import requests, training_histories
from nextpage.interactions.log import BEHAVIOURS, Dataset
from nextpage.interactions.sequences import Sequences, sequences_from_table


@dataclass(frozen=True, kw_only=True)
class Trial:
    """R requests with their truth, and what training counted over the I items of the catalogue."""

    request_id: np.ndarray  # str objects [R]
    histories: Sequences  # R whole histories of relevant events: what the user has seen, and the baselines' prompts
    truth: Truth  # R
    new_truth: Truth  # R, only items that the history lacks
    counts: Counts  # of relevant training events
    slices: tuple[Slice, ...]

    @property
    def user_id(self) -> np.ndarray:
        return self.histories.user_id

    def __len__(self) -> int:
        return len(self.request_id)


def read_trial(
    dataset: Dataset,
    item_ids: Sequence[str],
    *,
    split: str,
    limit: int | None,
    relevant: tuple[str, ...],
    recent_days: int,
) -> Trial:
    """A trial on at most `limit` requests of `split`, with item rows by `item_ids`.

    Only events of the behaviours `relevant` count: as truth, as what a user has seen, and in training. The counts are
    of the training split whatever the split of the requests. Raises ValueError where there is nothing to measure on.
    """
    asked = requests(dataset, item_ids, split=split, relevant=relevant, limit=limit)
    if not len(asked):
        raise ValueError(
            f"no {split} page holds an item of the catalogue that was {' or '.join(relevant)}: "
            "is the split beyond the log's end, or `relevant` a behaviour that the log lacks?"
        )
    histories = relevant_only(asked.prompts, relevant)
    training = relevant_only(training_histories(dataset, item_ids), relevant)
    counts = count(training, len(item_ids), recent_days)
    truth = Truth(offset=asked.truth_offset, item=asked.truth_item)
    slices = [
        *by_history_length(histories),
        *by_user_training(histories.user_id, training),
        *by_item_training(len(asked), counts.popularity),
        *by_attribute(histories.user_id, dataset.users),
    ]
    return Trial(
        request_id=asked.request_id,
        histories=histories,
        truth=truth,
        new_truth=truth.select(~seen_before(truth, histories)),
        counts=counts,
        slices=tuple(slices),
    )


def model_prompts(evaluation: Path, trial: Trial, item_ids: list[str]) -> Sequences:
    """The trial's prompts as the feature store gave them, in the trial's order.

    Raises ValueError where a request is missing or has another moment: the features are then of another dataset.
    """
    table = pq.read_table(evaluation, filters=pc.field("request_id").isin(trial.request_id.tolist()))
    asked = zip(table["user_id"].to_pylist(), table["request_id"].to_pylist(), strict=True)
    row = {key: place for place, key in enumerate(asked)}
    wanted = list(zip(trial.user_id.tolist(), trial.request_id.tolist(), strict=True))
    missing = [key for key in wanted if key not in row]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(wanted)} requests are not in {evaluation.name}, first that of user "
            f"{missing[0][0]!r}, request {missing[0][1]!r}: build the features from this dataset"
        )
    prompts = sequences_from_table(table.take([row[key] for key in wanted]), item_ids)
    moved = np.flatnonzero(prompts.as_of != trial.histories.as_of)
    if len(moved):
        raise ValueError(
            f"request {wanted[moved[0]][1]!r} is as of {prompts.as_of[moved[0]]} in {evaluation.name} and of "
            f"{trial.histories.as_of[moved[0]]} in the dataset: build the features from this dataset"
        )
    return prompts


def relevant_only(histories: Sequences, relevant: tuple[str, ...]) -> Sequences:
    """The same histories with only events of the behaviours `relevant`."""
    return histories.select(np.isin(histories.behaviour, [BEHAVIOURS.index(name) for name in relevant]))
