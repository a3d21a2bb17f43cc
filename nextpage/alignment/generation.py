"""Asking the model that is being aligned for items: drawn at random, or the best by beam search."""

from dataclasses import dataclass

import numpy as np
import torch

from nextpage.decoding.beam_search import Found, generate, search
from nextpage.decoding.eager import EagerEngine
from nextpage.decoding.engine import Prompts
from nextpage.decoding.prompts import prompts_of
from nextpage.decoding.sampling import sample
from nextpage.decoding.trie import Trie
from nextpage.interactions.sequences import Sequences
from nextpage.layouts.pages import PagesConfig
from nextpage.models.decoder import CausalDecoder


@dataclass(frozen=True, kw_only=True)
class Generation:
    """The model, whose weights may change from one call to the next, and what it takes to ask it."""

    model: CausalDecoder
    trie: Trie
    item_tokens: np.ndarray  # int64 [I, L]
    layout: PagesConfig
    prompt_items: int  # the last so many events of a history are read

    def draw(
        self, prompts: Sequences, number: int, seed: tuple[int, ...], *, constrained: bool
    ) -> tuple[torch.Tensor, np.ndarray]:
        """`number` answers a prompt, independently: codes int64 [B, number, L], and the rows of their items int32
        [B, number], −1 where they name none (never, where they are drawn along the trie)."""
        (state,) = np.random.SeedSequence(seed).generate_state(1)
        drawn = sample(
            EagerEngine(self.model),
            self._read(prompts),
            draws=number,
            generator=torch.Generator().manual_seed(int(state)),
            trie=self.trie if constrained else None,
        )
        return drawn.codes, self.trie.rows(drawn.codes).numpy()

    def beams(self, prompts: Sequences, number: int) -> Found:
        """The `number` most likely items of each prompt, best first."""
        return search(EagerEngine(self.model), self._read(prompts), self.trie, beam_width=number, k=number)

    def invalid_share(self, prompts: Sequences, number: int) -> np.ndarray:
        """Of the `number` most likely code tuples without the trie, the share that names no item: float64 [B]."""
        codes = generate(EagerEngine(self.model), self._read(prompts), beam_width=number).codes
        share: np.ndarray = (self.trie.rows(codes) < 0).double().mean(dim=1).numpy()
        return share

    def _read(self, prompts: Sequences) -> Prompts:
        return prompts_of(prompts, self.item_tokens, self.layout, self.prompt_items)
