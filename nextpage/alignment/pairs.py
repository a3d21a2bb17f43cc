"""Batches of preferences: which item of a prompt is chosen, and which are rejected.

Three ways to make them, all iterative, since the policy that is trained is asked anew at every step where one is asked:

- "sampled" (S-DPO): a positive of the page, against items drawn from the catalogue;
- "self_play" (SPRec, arXiv 2412.09243): a positive, against the policy's own draws that are none;
- "rerank" (OneRec's IPA, arXiv 2502.18965): the policy's beams by reward, the best against the worst.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nextpage.alignment.generation import Generation
from nextpage.alignment.log_probs import answer_log_probs
from nextpage.alignment.pages import Asked, TrainingPages
from nextpage.alignment.preference import Preferences
from nextpage.alignment.rewards import Judge, RewardsConfig, rewards
from nextpage.layouts.answers import lay_out_answers
from nextpage.models.decoder import CausalDecoder

WAYS = ("sampled", "self_play", "rerank")


@dataclass(frozen=True, kw_only=True)
class PreferenceConfig:
    """`pairs`: the way they are made. `rejected` items a chosen one: 1 is DPO, more are S-DPO. `candidates`: how many
    items the policy is asked for."""

    pairs: str = "rerank"
    rejected: int = 4
    candidates: int = 32
    beta: float = 0.1

    def __post_init__(self) -> None:
        if self.pairs not in WAYS:
            raise ValueError(f"pairs {self.pairs!r} is unknown: use one of {', '.join(WAYS)}")
        if not 1 <= self.rejected < self.candidates:
            raise ValueError(
                f"rejected is {self.rejected} of {self.candidates} candidates: use at least 1 and fewer than candidates"
            )
        if self.beta <= 0:
            raise ValueError(f"beta is {self.beta}: use a positive number")


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Preferences over `prompts` pages a step, one a page."""

    generation: Generation
    reference: CausalDecoder  # the model before alignment, which stays as it is
    pages: TrainingPages
    judge: Judge
    rewards: RewardsConfig
    config: PreferenceConfig
    prompts: int
    seed: int

    def walk(self, *, start: int, rank: int, processes: int) -> Iterator[Preferences]:
        """Each batch is made when it is asked for, with the weights of that moment."""
        asked_pages = self.pages.walk(self.prompts, start=start, rank=rank, processes=processes)
        for step, asked in enumerate(asked_pages, start):
            yield self.learn_from(asked, *self.choose(asked, (self.seed, step, rank)))

    def choose(self, asked: Asked, seed: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Item rows chosen int [B], and rejected int [B, n], none of which is the chosen one."""
        draw, by, number = np.random.default_rng(seed), self.generation, self.config.candidates
        chosen = np.array([draw.choice(own) for own in asked.positives])
        candidates = draw.integers(0, by.trie.items, (len(asked), number))
        if self.config.pairs == "self_play":
            own = by.draw(asked.prompts, number, seed, constrained=True).rows
            candidates = np.concatenate([own, candidates], axis=1)  # where too few are drawn that are no positives
        rejected = _negatives(candidates, asked.positives, self.config.rejected)
        if self.config.pairs == "rerank":
            best, worst, differ = self._best_and_worst(asked)
            return np.where(differ, best, chosen), np.where(differ[:, None], worst, rejected)
        return chosen, rejected

    def _best_and_worst(self, asked: Asked) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """By reward the best item of the beams, the worst, and whether it is better than they."""
        candidates = self.generation.beams(asked.prompts, self.config.candidates).rows.numpy()
        reward = rewards(asked.prompts, candidates, asked.positives, self.judge, self.rewards)
        order = np.argsort(-reward, axis=1, kind="stable")
        ranked, worth = (np.take_along_axis(of, order, axis=1) for of in (candidates, reward))
        worst = slice(-self.config.rejected, None)
        return ranked[:, 0], ranked[:, worst], (worth[:, 0] > worth[:, worst].max(axis=1)) & (ranked.min(axis=1) >= 0)

    def learn_from(self, asked: Asked, chosen: np.ndarray, rejected: np.ndarray) -> Preferences:
        """With the log-probabilities of the model before alignment."""
        by = self.generation
        answers = list(by.item_tokens[np.concatenate([chosen[:, None], rejected], axis=1)])
        packed = lay_out_answers(asked.prompts, answers, by.item_tokens, by.layout, by.prompt_items)
        with torch.no_grad():
            here = packed.to(self.reference.output_weight.device)
            reference = answer_log_probs(self.reference, here).sum(dim=1).view(len(asked), -1)
        return Preferences(packed=packed, reference_log_prob=reference.cpu())


def _negatives(candidates: np.ndarray, positives: Sequence[np.ndarray], number: int) -> np.ndarray:
    """The first `number` distinct candidates of each row that are no positives: int [B, number]."""
    kept = []
    for own, page in zip(candidates, positives, strict=True):
        distinct = own[np.sort(np.unique(own, return_index=True)[1])]
        others = distinct[~np.isin(distinct, page)][:number]
        if len(others) < number:
            raise ValueError(
                f"a page of {len(page)} chosen items leaves {len(others)} of {len(own)} candidates to reject, not "
                f"{number}: ask for more candidates, or reject fewer"
            )
        kept.append(others)
    return np.stack(kept)
