"""Batches of rollouts: answers drawn from the policy as it stands when a step begins, and what they earn."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from nextpage.alignment.generation import Answers, Generation
from nextpage.alignment.pages import Asked, TrainingPages
from nextpage.alignment.policy import PolicyConfig, Rollouts, advantages
from nextpage.alignment.rewards import Judge, RewardsConfig, rewards
from nextpage.layouts.answers import lay_out_answers
from nextpage.tokenizers.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class OnPolicy:
    """Rollouts of `prompts` pages a step, with their advantages."""

    generation: Generation
    pages: TrainingPages
    judge: Judge
    rewards: RewardsConfig
    config: PolicyConfig
    prompts: int
    seed: int

    def walk(self, *, start: int, rank: int, processes: int) -> Iterator[Rollouts]:
        """Each batch is drawn when it is asked for, from the weights of that moment."""
        asked_pages = self.pages.walk(self.prompts, start=start, rank=rank, processes=processes)
        for step, asked in enumerate(asked_pages, start):
            answers = self.roll_out(asked, (self.seed, step, rank))
            reward = rewards(asked.prompts, answers.rows, asked.positives, self.judge, self.rewards)
            surprise = np.where(answers.rows >= 0, -answers.log_prob, 0.0)
            yield self.learn_from(asked, answers.codes, torch.from_numpy(reward + self.config.entropy * surprise))

    def roll_out(self, asked: Asked, seed: tuple[int, ...]) -> Answers:
        """G answers a prompt by the policy as it stands."""
        by, config = self.generation, self.config
        if config.rollouts == "beams":
            return by.likeliest(asked.prompts, config.group, constrained=config.constrained)
        return by.draw(asked.prompts, config.group, seed, constrained=config.constrained)

    def learn_from(self, asked: Asked, codes: torch.Tensor, reward: torch.Tensor) -> Rollouts:
        """Of each prompt its rollouts, and then, for the NLL term, its positives. codes [B, G, L], reward [B, G]."""
        by, group = self.generation, self.config.group
        drawn = Vocabulary(by.trie.sizes).tokens(codes.numpy())
        anchors = asked.positives if self.config.nll_weight else [own[:0] for own in asked.positives]
        answers = [np.concatenate([own, by.item_tokens[rows]]) for own, rows in zip(drawn, anchors, strict=True)]
        sizes = np.array([len(own) for own in answers])
        place = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        is_rollout = torch.from_numpy(place < group)
        advantage = torch.zeros(len(place), dtype=torch.float32)
        advantage[is_rollout] = advantages(reward.float(), self.config.spread).flatten()
        return Rollouts(
            packed=lay_out_answers(asked.prompts, answers, by.item_tokens, by.layout, by.prompt_items),
            prompt=torch.from_numpy(np.repeat(np.arange(len(asked)), sizes)),
            is_rollout=is_rollout,
            advantage=advantage,
            prompts=len(asked),
        )
