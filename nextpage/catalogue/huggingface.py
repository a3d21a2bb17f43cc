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
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype {self.dtype!r} is unknown: use one of {', '.join(DTYPES)}")


class HuggingFaceEncoder:
    """A TextEncoder. Texts are sorted by length into batches, so that little is padding."""

    def __init__(self, config: HuggingFaceConfig):
        try:
            from transformers import AutoImageProcessor, AutoModel, AutoTokenizer
        except ImportError as error:
            raise ImportError("transformers is not installed: pip install nextpage[encoders]") from error
        self.config = config
        self._tokenizer: Any = AutoTokenizer.from_pretrained(config.model, padding_side="right")
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        model: Any = AutoModel.from_pretrained(config.model, dtype=DTYPES[config.dtype])
        self._model = model.to(config.device).eval()
        # Tokenizer and image processor apart: Qwen2.5-VL's joint processor wants torchvision, for videos.
        self._image_processor: Any = AutoImageProcessor.from_pretrained(config.model) if self._sees else None

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
        return hasattr(self._model.config, "vision_config")

    def _inputs(self, texts: list[str], paths: Sequence[Path | None]) -> dict[str, Tensor]:
        seen = self._images([path for path in paths if path is not None])
        if not seen:
            return self._tokens(texts)
        # In the prompt of the Qwen-VL family an image is as many marks as the merged patches that it becomes.
        config = self._model.config
        marks = iter((seen["image_grid_thw"].prod(1) // config.vision_config.spatial_merge_size**2).tolist())
        start, mark, end = self._tokenizer.convert_ids_to_tokens(
            [config.vision_start_token_id, config.image_token_id, config.vision_end_token_id]
        )
        prompts = [
            text if path is None else start + mark * next(marks) + end + text
            for text, path in zip(texts, paths, strict=True)
        ]
        longest = int(seen["image_grid_thw"].prod(1).max())
        inputs = self._tokens(prompts, room=longest)
        return inputs | seen | {"mm_token_type_ids": (inputs["input_ids"] == config.image_token_id).int()}

    def _tokens(self, texts: list[str], *, room: int = 0) -> dict[str, Tensor]:
        """Token ids and mask [N, T] with T ≤ max_tokens + room, padded on the right."""
        limit = self.config.max_tokens + room
        batch = self._tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=limit)
        return {name: batch[name].to(self.config.device) for name in ("input_ids", "attention_mask")}

    def _images(self, paths: Sequence[Path]) -> dict[str, Tensor]:
        """Patches of the images and how many each has in time, height and width; nothing for no images."""
        if not paths:
            return {}
        from PIL import Image

        batch = self._image_processor([Image.open(path).convert("RGB") for path in paths], return_tensors="pt")
        return {name: batch[name].to(self.config.device) for name in ("pixel_values", "image_grid_thw")}

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
