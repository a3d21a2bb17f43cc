"""Codes that name no item, when the model writes without the trie."""

import numpy as np

from nextpage.tokenizers.semantic_ids import SemanticIds


def hallucination_rate(generated: np.ndarray, semantic_ids: SemanticIds) -> float:
    """Share of generated code tuples (int [S, B, L], decoded unconstrained) that name no item (GenRec's HaR).

    A code outside its level's codebook names no item. NaN where nothing was generated.
    """
    if generated.shape[-1] != len(semantic_ids.sizes):
        raise ValueError(
            f"generated tuples have {generated.shape[-1]} codes, the table has {len(semantic_ids.sizes)}: "
            "was the model trained with another tokenizer?"
        )
    codes = generated.reshape(-1, generated.shape[-1])
    if not len(codes):
        return float("nan")
    inside = ((codes >= 0) & (codes < np.asarray(semantic_ids.sizes))).all(axis=1)
    known = np.isin(_key(codes, semantic_ids.sizes), _key(semantic_ids.codes, semantic_ids.sizes))
    return float(1 - (inside & known).mean())


def _key(codes: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """One number a tuple, int64 [N]; distinct for tuples inside the codebooks."""
    key = np.zeros(len(codes), dtype=np.int64)
    for level, size in enumerate(sizes):
        key = key * size + codes[:, level]
    return key
