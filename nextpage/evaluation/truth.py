"""What users took after a prompt: the truth that rankings are held against."""

from dataclasses import dataclass

import numpy as np

from nextpage.interactions.sequences import Sequences


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The items of R requests; those of request r are `item[offset[r]:offset[r + 1]]`, each once."""

    offset: np.ndarray  # int64 [R + 1]
    item: np.ndarray  # int32 [T], item rows

    def __post_init__(self) -> None:
        pairs = np.stack([self.request, self.item], axis=1)
        if len(np.unique(pairs, axis=0)) != len(pairs):
            raise ValueError("a request names one item of its truth twice: keep each item once a request")

    def __len__(self) -> int:
        return len(self.offset) - 1

    @property
    def size(self) -> np.ndarray:
        """Items of each request, int64 [R]."""
        return np.diff(self.offset)

    @property
    def request(self) -> np.ndarray:
        """The request of each item, int64 [T]."""
        return np.repeat(np.arange(len(self)), self.size)

    def select(self, keep: np.ndarray) -> "Truth":
        """The same requests with only the items where `keep` (bool [T]) holds; some may be left with none."""
        kept_before = np.concatenate([[0], np.cumsum(keep)])
        return Truth(offset=kept_before[self.offset].astype(np.int64), item=self.item[keep])


def among(request: np.ndarray, item: np.ndarray, other_request: np.ndarray, other_item: np.ndarray) -> np.ndarray:
    """Which of the pairs (request, item) are among the other pairs, as bool of the shape of `item`."""
    width = 1 + max(item.max(initial=0), other_item.max(initial=0))
    return np.isin(request * np.int64(width) + item, other_request * np.int64(width) + other_item)


def seen_before(truth: Truth, histories: Sequences) -> np.ndarray:
    """Which items of the truth the request's history holds, bool [T]."""
    return among(truth.request, truth.item, history_of_event(histories), histories.item)


def history_of_event(histories: Sequences) -> np.ndarray:
    """The history that each event belongs to, int64 [N]."""
    return np.repeat(np.arange(len(histories)), np.diff(histories.offset))
