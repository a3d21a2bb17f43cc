"""How codes become tokens: a few special tokens, then one range of tokens for each level."""

from dataclasses import dataclass

import numpy as np

PAD = 0
SEP = 1
"""Starts a generated item; its hidden state predicts the item's first code."""
SPECIALS = 2


@dataclass(frozen=True)
class Vocabulary:
    """Tokens of codebooks with `sizes` codes: token(level, code) = SPECIALS + sum(sizes[:level]) + code."""

    sizes: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of tokens, the special ones included."""
        return SPECIALS + sum(self.sizes)

    def level_range(self, level: int) -> tuple[int, int]:
        """First token of a level, and the one after its last."""
        start = SPECIALS + sum(self.sizes[:level])
        return start, start + self.sizes[level]

    def tokens(self, codes: np.ndarray) -> np.ndarray:
        """Tokens [..., L], int64, of codes [..., L]."""
        tokens: np.ndarray = np.asarray(codes, dtype=np.int64) + self._starts()
        return tokens

    def codes(self, tokens: np.ndarray) -> np.ndarray:
        """Codes [..., L], int32, of tokens [..., L]; raises ValueError where a token is of another level."""
        codes: np.ndarray = np.asarray(tokens, dtype=np.int64) - self._starts()
        outside = (codes < 0) | (codes >= np.asarray(self.sizes))
        if outside.any():
            where = tuple(int(place) for place in np.argwhere(outside)[0])
            raise ValueError(
                f"token {np.asarray(tokens)[where]} at {where} is no code of level {where[-1]}, whose tokens "
                f"are {self.level_range(where[-1])}: are these generated tokens without SEP and PAD?"
            )
        return codes.astype(np.int32)

    def _starts(self) -> np.ndarray:
        return np.asarray([self.level_range(level)[0] for level in range(len(self.sizes))], dtype=np.int64)
