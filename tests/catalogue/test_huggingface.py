"""Real loading code on tiny models of random weights, made here."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLModel,
    Qwen2TokenizerFast,
    Qwen2VLImageProcessorPil,
)

from nextpage.catalogue.huggingface import HuggingFaceConfig, HuggingFaceEncoder
from nextpage.catalogue.text import text_encoder

WORDS = ["[PAD]", "[UNK]", "milk", "bread", "tea", "green", "whole", "of", "maker"]
TEXTS = ["whole milk", "green tea of maker", "bread", "milk bread tea of of of maker"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    tokenizer = Tokenizer(models.WordLevel({word: row for row, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_text_vectors_are_the_pooled_hidden_states_of_each_text_alone(bert, pooling):
    encoder = HuggingFaceEncoder(HuggingFaceConfig(model=str(bert), pooling=pooling, batch=3))
    model = BertModel.from_pretrained(bert).eval()
    for text, vector in zip(TEXTS, encoder(TEXTS), strict=True):
        ids = torch.tensor([[WORDS.index(word) for word in text.split()]])
        with torch.no_grad():
            hidden = model(ids).last_hidden_state[0]
        wanted = hidden.mean(0) if pooling == "mean" else hidden[-1]
        np.testing.assert_allclose(vector, wanted.numpy(), atol=1e-5)


def test_a_recipe_names_a_model_by_its_folder(bert):
    vectors = text_encoder(f"huggingface:{bert}")(TEXTS)
    assert vectors.shape == (4, 16)
    assert vectors.dtype == np.float32


def test_long_texts_are_cut(bert):
    encoder = HuggingFaceEncoder(HuggingFaceConfig(model=str(bert), max_tokens=2))
    np.testing.assert_allclose(encoder(["milk bread tea tea"]), encoder(["milk bread"]), atol=1e-6)


def test_half_precision_is_near_full(bert):
    full = HuggingFaceEncoder(HuggingFaceConfig(model=str(bert)))(TEXTS)
    half = HuggingFaceEncoder(HuggingFaceConfig(model=str(bert), dtype="bfloat16"))(TEXTS)
    assert half.dtype == np.float32
    assert 0 < np.abs(full - half).max() < 0.1


def test_images_for_a_text_model_and_images_too_few_are_refused(bert, tmp_path):
    encoder = HuggingFaceEncoder(HuggingFaceConfig(model=str(bert)))
    with pytest.raises(ValueError, match="takes no images"):
        encoder(["milk"], images=[tmp_path / "milk.png"])
    with pytest.raises(ValueError, match="1 images for 2 texts"):
        encoder(["milk", "tea"], images=[None])


@pytest.mark.parametrize("setting", [{"pooling": "max"}, {"dtype": "int3"}])
def test_unknown_settings_are_named(setting):
    with pytest.raises(ValueError, match="is unknown"):
        HuggingFaceConfig(model="any", **setting)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2.5-VL of a few thousand weights, with its tokenizer and image processor."""
    folder = tmp_path_factory.mktemp("qwen")
    special = ["<|endoftext|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: row for row, letter in enumerate(letters)}
    tokenizer = Qwen2TokenizerFast(vocab=vocab, merges=[], additional_special_tokens=special)
    ids = dict(zip(special, tokenizer.convert_tokens_to_ids(special), strict=True))
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=56 * 56).save_pretrained(folder)
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    torch.manual_seed(0)
    Qwen2_5_VLModel(config).save_pretrained(folder)
    return folder


def test_a_vision_language_model_sees_the_image(qwen, tmp_path):
    for name, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        Image.new("RGB", (40, 40), colour).save(tmp_path / f"{name}.png")
    red, blue = tmp_path / "red.png", tmp_path / "blue.png"
    encoder = HuggingFaceEncoder(HuggingFaceConfig(model=str(qwen), pooling="last"))
    vectors = encoder(["milk", "milk", "milk", "milk"], images=[red, blue, red, None])
    assert vectors.shape == (4, 32)
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3
    np.testing.assert_allclose(vectors[3], encoder(["milk"])[0], atol=1e-4)
