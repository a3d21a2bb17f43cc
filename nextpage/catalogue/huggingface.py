"""Encoders from Hugging Face: a text model, or a vision-language model such as GenRec's Qwen2.5-VL."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextpage.progress import bar

POOLINGS = ("mean", "last")


@dataclass(frozen=True, kw_only=True)
class HuggingFaceConfig:
    """`model` is a local folder or a hub id. `pooling`: the `mean` over an item's tokens suits encoders; the `last`
    token, which has seen all others, suits causal decoders."""

    model: str
    pooling: str = "mean"
    batch: int = 64
    max_tokens: int = 128
    dtype: str = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling {self.pooling!r} is unknown: use one of {', '.join(POOLINGS)}")
        if not isinstance(getattr(torch, self.dtype, None), torch.dtype):
            raise ValueError(f"dtype {self.dtype!r} is unknown: use float32, bfloat16 or float16")


class HuggingFaceEncoder:
    """A TextEncoder. Texts are sorted by length into batches, so that little is padding."""

    def __init__(self, config: HuggingFaceConfig):
        try:
            from transformers import AutoModel, AutoProcessor
        except ImportError as error:
            raise ImportError("transformers is not installed: pip install nextpage[encoders]") from error
        self.config = config
        # AutoProcessor gives a text model's tokenizer; a vision-language model's comes with an image processor.
        self._processor: Any = AutoProcessor.from_pretrained(config.model)
        tokenizer = self._tokenizer
        tokenizer.padding_side = "right"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        model: Any = AutoModel.from_pretrained(config.model, dtype=getattr(torch, config.dtype))
        self._model = model.to(config.device).eval()

    def __call__(self, texts: list[str], images: Sequence[Path | None] | None = None) -> np.ndarray:
        """Vectors float32 [N, D] of texts, each with an image where `images` names a file. N is at least 1."""
        if images is not None and len(images) != len(texts):
            raise ValueError(f"there are {len(images)} images for {len(texts)} texts: give one, or None, for each text")
        if images is not None and not self._sees:
            raise ValueError(f"model {self.config.model!r} takes no images: use a vision-language model, or text only")
        order = np.argsort([len(text) for text in texts], kind="stable")
        vectors: np.ndarray | None = None
        with bar(total=len(texts), unit="text", title="text encoder") as progress, torch.inference_mode():
            for start in range(0, len(order), self.config.batch):
                rows = order[start : start + self.config.batch]
                paths = [images[row] for row in rows] if images is not None else [None] * len(rows)
                pooled = self._pool(self._inputs([texts[row] for row in rows], paths))
                if vectors is None:
                    vectors = np.empty((len(texts), pooled.shape[1]), dtype=np.float32)
                vectors[rows] = pooled
                progress.update(len(rows))
        if vectors is None:
            raise ValueError("there are no texts to encode: is the catalogue empty?")
        return vectors

    @property
    def _sees(self) -> bool:
        return hasattr(self._processor, "image_processor")

    @property
    def _tokenizer(self) -> Any:
        return getattr(self._processor, "tokenizer", self._processor)

    def _inputs(self, texts: list[str], paths: Sequence[Path | None]) -> dict[str, Tensor]:
        if not any(paths):
            # Text alone is cut; with images it is not, lest a cut go through an image's own tokens.
            limits = {"truncation": True, "max_length": self.config.max_tokens}
            return dict(self._tokenizer(texts, return_tensors="pt", padding=True, **limits).to(self.config.device))
        from PIL import Image

        pictures = [Image.open(path).convert("RGB") for path in paths if path is not None]
        # A vision model reads an image where its mark stands in the text; the mark grows into the image's patches.
        mark = f"<|vision_start|>{self._processor.image_token}<|vision_end|>"
        marked = [mark + text if path is not None else text for text, path in zip(texts, paths, strict=True)]
        batch = self._processor(text=marked, images=pictures, return_tensors="pt", padding=True)
        return dict(batch.to(self.config.device))

    def _pool(self, inputs: dict[str, Tensor]) -> np.ndarray:
        hidden_NTD = self._model(**inputs).last_hidden_state.float()
        mask_NT = inputs["attention_mask"]
        if self.config.pooling == "last":
            last_N = mask_NT.sum(1).clamp(min=1) - 1
            pooled_ND = hidden_NTD[torch.arange(len(last_N), device=last_N.device), last_N]
        else:
            weight_NT1 = mask_NT[..., None].float()
            pooled_ND = (hidden_NTD * weight_NT1).sum(1) / weight_NT1.sum(1).clamp(min=1.0)
        vectors: np.ndarray = pooled_ND.cpu().numpy()
        return vectors
