"""Small catalogues, filters and models that a test can enumerate, and brute-force answers about them."""

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from nextpage.decoding.engine import Frontier, Prompts
from nextpage.models.decoder import CausalDecoder, DecoderConfig
from nextpage.tokenizers.semantic_ids import SemanticIds
from nextpage.tokenizers.vocabulary import Vocabulary


def semantic_ids(codes: list[tuple[int, ...]], sizes: tuple[int, ...]) -> SemanticIds:
    names = np.asarray([f"item{number:03d}" for number in range(len(codes))], dtype=object)
    return SemanticIds.sorted(names, np.asarray(codes, dtype=np.int32).reshape(len(codes), len(sizes)), sizes)


@st.composite
def catalogues(draw: st.DrawFn, most: int = 24) -> SemanticIds:
    """1 to 4 levels of 1 to 4 codes; few enough codes that several items often share all of them."""
    sizes = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    code = st.tuples(*(st.integers(0, size - 1) for size in sizes))
    return semantic_ids(draw(st.lists(code, min_size=1, max_size=most)), sizes)


def filters(prompts: int, items: int) -> st.SearchStrategy[Tensor]:
    """bool [prompts, items]; none, few, most and all items allowed all occur."""
    row = st.one_of(
        st.lists(st.booleans(), min_size=items, max_size=items),
        st.just([False] * items),
        st.integers(0, items - 1).map(lambda only: [item == only for item in range(items)]),
    )
    return st.lists(row, min_size=prompts, max_size=prompts).map(torch.tensor)


@dataclass(frozen=True)
class TableEngine:
    """A model that is a table: prompt number p has random logits of its own after every prefix of codes."""

    sizes: tuple[int, ...]
    tables: tuple[Tensor, ...]  # one a level [prompts, prefixes of the level, codes of the level]

    @staticmethod
    def random(sizes: tuple[int, ...], prompts: int, seed: int) -> "TableEngine":
        generator = torch.Generator().manual_seed(seed)
        prefixes = np.cumprod((1, *sizes[:-1]))
        shapes = [(prompts, int(prefix), size) for prefix, size in zip(prefixes, sizes, strict=True)]
        return TableEngine(sizes, tuple(torch.randn(shape, generator=generator) * 3 for shape in shapes))

    def prompts(self, *numbers: int) -> Prompts:
        tokens = torch.tensor(numbers)[:, None]
        return Prompts(tokens=tokens, lengths=torch.ones(len(numbers), dtype=torch.int64))

    def prefill(self, prompts: Prompts) -> Frontier[tuple[Tensor, Tensor]]:
        number = prompts.tokens
        return Frontier(logits=self.tables[0][number, 0], state=(number, torch.zeros_like(number)))

    def step(
        self, state: tuple[Tensor, Tensor], parents: Tensor, codes: Tensor, level: int
    ) -> Frontier[tuple[Tensor, Tensor]]:
        number, prefix = state
        prefix = prefix.gather(1, parents.long()) * self.sizes[level - 1] + codes
        return Frontier(logits=self.tables[level][number, prefix], state=(number, prefix))

    def log_prob(self, number: int, codes: np.ndarray) -> np.ndarray:
        """Of every row of codes [I, L], by the chain rule over the tables: float64 [I]."""
        total, prefix = np.zeros(len(codes)), np.zeros(len(codes), dtype=np.int64)
        for level, table in enumerate(self.tables):
            log_softmax = table[number].double().log_softmax(-1).numpy()
            total += log_softmax[prefix, codes[:, level]]
            prefix = prefix * self.sizes[level] + codes[:, level]
        return total


def decoder(
    sizes: tuple[int, ...],
    *,
    layers: int = 2,
    kv_heads: int = 2,
    seed: int = 0,
) -> CausalDecoder:
    """A random decoder with weights large enough that its distributions are far from uniform."""
    vocabulary = Vocabulary(sizes)
    torch.manual_seed(seed)
    model = CausalDecoder(
        DecoderConfig(
            vocabulary_size=vocabulary.size,
            level_ranges=tuple(vocabulary.level_range(level) for level in range(len(sizes))),
            width=16,
            layers=layers,
            heads=4,
            kv_heads=kv_heads,
            head_width=8,
            mlp_width=24,
        )
    )
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model


def random_prompts(sizes: tuple[int, ...], lengths: list[int], seed: int = 0) -> Prompts:
    """Histories of random items; the padding holds random items too, so that an engine that reads it fails."""
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, sizes, size=(len(lengths), max(lengths) + 1, len(sizes)))
    tokens = torch.from_numpy(Vocabulary(sizes).tokens(codes))
    return Prompts(tokens=tokens, lengths=torch.tensor(lengths))


def only(prompts: Prompts, index: int) -> Prompts:
    """One prompt of a batch, without its padding."""
    row, length = slice(index, index + 1), int(prompts.lengths[index])
    return Prompts(tokens=prompts.tokens[row, :length], lengths=prompts.lengths[row])
