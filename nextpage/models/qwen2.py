"""Start from a Qwen2 or Qwen2.5 checkpoint: its safetensors have the names of our layers."""

import json
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from nextpage.models.decoder import CausalDecoder, DecoderConfig

PREFIX = "model."


def qwen2_config(folder: Path) -> DecoderConfig:
    """The shape of the checkpoint in `folder`. Raises ValueError where it is of another architecture."""
    raw = json.loads((folder / "config.json").read_text())
    if raw.get("model_type") != "qwen2":
        raise ValueError(f"{folder} holds a {raw.get('model_type')!r} model: only 'qwen2' has these layers")
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default" or raw.get("use_sliding_window"):
        raise ValueError(f"{folder} scales its rotary embedding or slides its attention: neither is supported")
    return DecoderConfig(
        vocabulary_size=raw["vocab_size"],
        width=raw["hidden_size"],
        layers=raw["num_hidden_layers"],
        heads=raw["num_attention_heads"],
        kv_heads=raw["num_key_value_heads"],
        head_width=raw.get("head_dim") or raw["hidden_size"] // raw["num_attention_heads"],
        mlp_width=raw["intermediate_size"],
        rope_theta=float(rope.get("rope_theta") or raw.get("rope_theta", 10_000.0)),
        norm_epsilon=raw["rms_norm_eps"],
        tied_head=raw["tie_word_embeddings"],
    )


def load_qwen2(folder: Path) -> CausalDecoder:
    """The language model of a checkpoint with all its tokens, in fp32."""
    decoder = CausalDecoder(qwen2_config(folder))
    decoder.load_state_dict(_weights(folder))
    return decoder


def initialise_from_qwen2(decoder: CausalDecoder, folder: Path) -> None:
    """Give a recommender's decoder the layers and final norm of a checkpoint of its shape.

    Semantic IDs are words that no language model knows: embeddings and merger stay as they were made.
    """
    config = qwen2_config(folder)
    for name in ("width", "layers", "heads", "kv_heads", "head_width", "mlp_width"):
        if getattr(config, name) != getattr(decoder.config, name):
            raise ValueError(
                f"the decoder's {name} is {getattr(decoder.config, name)}, that of {folder} is "
                f"{getattr(config, name)}: set model.{name} in the recipe to the checkpoint's"
            )
    body = {name: weight for name, weight in _weights(folder).items() if name.startswith(("layers.", "norm."))}
    decoder.load_state_dict(body, strict=False)


def _weights(folder: Path) -> dict[str, Tensor]:
    """Of one file or of many, under our names: theirs without `model.`."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder} has no .safetensors file")
    weights: dict[str, Tensor] = {}
    for path in files:
        weights |= {name.removeprefix(PREFIX): weight.float() for name, weight in load_file(path).items()}
    return weights
