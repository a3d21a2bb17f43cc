"""Asking the model that is being aligned for items: drawn at random, or the best by beam search."""

from dataclasses import dataclass

import numpy as np
import torch

from nextpage.decoding.beam_search import Found, generate, search
from nextpage.decoding.engine import Prompts
from nextpage.decoding.engines.eager import EagerEngine
from nextpage.decoding.prompts import prompts_of
from nextpage.decoding.sampling import sample
from nextpage.decoding.trie import Trie
from nextpage.interactions.sequences import Sequences
from nextpage.layouts.pages import PagesConfig
from nextpage.models.decoder import CausalDecoder


@dataclass(frozen=True, kw_only=True)
class Answers:
    """G answers to each of B prompts. Rows are −1 where codes name no item."""

    codes: torch.Tensor  # int64 [B, G, L]
    rows: np.ndarray  # int32 [B, G]
    log_prob: np.ndarray  # float32 [B, G], by the model, over all codes


@dataclass(frozen=True, kw_only=True)
class Generation:
    """The model, whose weights may change from one call to the next, and what it takes to ask it.

    Model and trie are on one device; what is asked and answered is on the CPU.
    """

    model: CausalDecoder
    trie: Trie
    item_tokens: np.ndarray  # int64 [I, L]
    layout: PagesConfig
    prompt_items: int  # the last so many events of a history are read

    def draw(self, prompts: Sequences, number: int, seed: tuple[int, ...], *, constrained: bool) -> Answers:
        """`number` answers a prompt, drawn independently; `constrained` ones along the trie, so that all are items."""
        (state,) = np.random.SeedSequence(seed).generate_state(1)
        drawn = sample(
            EagerEngine(self.model),
            self._read(prompts),
            draws=number,
            generator=torch.Generator(self._device).manual_seed(int(state)),
            trie=self.trie if constrained else None,
        )
        return self._answers(drawn.codes, self.trie.rows(drawn.codes), drawn.log_prob)

    def likeliest(self, prompts: Sequences, number: int, *, constrained: bool) -> Answers:
        """The `number` likeliest answers of each prompt; `constrained` ones are items.

        Raises ValueError where the catalogue holds fewer.
        """
        if not constrained:
            made = generate(EagerEngine(self.model), self._read(prompts), beam_width=number)
            return self._answers(made.codes, self.trie.rows(made.codes), made.log_prob)
        if number > self.trie.items:
            raise ValueError(f"{number} items of each prompt are asked for, the catalogue holds {self.trie.items}")
        found = self._search(prompts, number)
        return self._answers(self.trie.codes(found.rows), found.rows, found.log_prob)

    def beams(self, prompts: Sequences, number: int) -> Found:
        """The `number` most likely items of each prompt, best first."""
        found = self._search(prompts, number)
        return Found(rows=found.rows.cpu(), log_prob=found.log_prob.cpu())

    def invalid_share(self, prompts: Sequences, number: int) -> np.ndarray:
        """Of the `number` most likely code tuples without the trie, the share that names no item: float64 [B]."""
        codes = generate(EagerEngine(self.model), self._read(prompts), beam_width=number).codes
        share: np.ndarray = (self.trie.rows(codes) < 0).double().mean(dim=1).cpu().numpy()
        return share

    @property
    def _device(self) -> torch.device:
        return self.trie.edge_codes[0].device

    def _search(self, prompts: Sequences, number: int) -> Found:
        return search(EagerEngine(self.model), self._read(prompts), self.trie, beam_width=number, k=number)

    def _answers(self, codes: torch.Tensor, rows: torch.Tensor, log_prob: torch.Tensor) -> Answers:
        return Answers(codes=codes.cpu(), rows=rows.cpu().numpy(), log_prob=log_prob.float().cpu().numpy())

    def _read(self, prompts: Sequences) -> Prompts:
        return prompts_of(prompts, self.item_tokens, self.layout, self.prompt_items).to(self._device)
