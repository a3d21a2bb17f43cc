import json

import numpy as np
import pytest

from nextpage.tokenizers.quality import QualityBounds, measure_quality, quality_verdict
from nextpage.tokenizers.residual_kmeans import ResidualKMeans, ResidualKMeansConfig
from nextpage.tokenizers.unique_codes import Assignment, assign


def blobs() -> tuple[np.ndarray, np.ndarray]:
    """1,200 vectors around 24 centres, and the centre's name."""
    draw = np.random.default_rng(0)
    label = np.arange(1200) % 24
    vectors = draw.normal(size=(24, 16))[label] + 0.3 * draw.normal(size=(1200, 16))
    return vectors.astype(np.float32), label.astype(str).astype(object)


def placed(quantiser: ResidualKMeans, vectors: np.ndarray) -> Assignment:
    return assign(quantiser, vectors, popularity=np.zeros(len(vectors)))


@pytest.fixture(scope="module")
def fitted() -> ResidualKMeans:
    return ResidualKMeans(ResidualKMeansConfig(levels=3, codes=24, steps=15)).fit(blobs()[0])


def test_k_means_on_clustered_items_passes_and_finds_the_categories(fitted):
    vectors, label = blobs()
    report = measure_quality(fitted, vectors, placed(fitted, vectors), category=label)
    verdict = quality_verdict(report, QualityBounds())
    assert verdict.passed, verdict.reasons
    assert verdict.gate == "tokenizer health"
    assert report.category > 0.95
    assert report.category_chance == pytest.approx(1 / 24)
    assert report.neighbour > 0.9
    assert report.colliding_after == 0.0


def test_a_codebook_of_random_vectors_is_refused_for_its_coverage():
    vectors, _ = blobs()
    draw = np.random.default_rng(1)
    random = ResidualKMeans.of(draw.normal(scale=4.0, size=(3, 256, 16)).astype(np.float32))
    report = measure_quality(random, vectors, placed(random, vectors))
    verdict = quality_verdict(report, QualityBounds())
    assert not verdict.passed
    assert report.levels[0].coverage < 0.3
    assert "level 0 uses" in verdict.reasons[0]


def test_codes_drawn_at_random_are_refused_for_their_neighbours_and_error(fitted):
    vectors, _ = blobs()
    codes = np.random.default_rng(0).integers(24, size=(1200, 3)).astype(np.int32)
    shuffled = Assignment(nearest=codes, codes=codes, moved=0, shared=0)
    reasons = quality_verdict(measure_quality(fitted, vectors, shuffled), QualityBounds()).reasons
    assert any("nearest items share the first code" in reason for reason in reasons)
    assert any("variance unexplained" in reason for reason in reasons)


def test_one_code_that_holds_most_items_is_refused_for_its_perplexity(fitted):
    vectors, _ = blobs()
    codes = placed(fitted, vectors).codes.copy()
    codes[24:, 0] = 0
    codes[:24, 0] = np.arange(24)
    lopsided = Assignment(nearest=codes, codes=codes, moved=0, shared=0)
    reasons = quality_verdict(measure_quality(fitted, vectors, lopsided), QualityBounds()).reasons
    assert any("level 0 has a perplexity" in reason for reason in reasons)


def test_items_that_share_all_codes_are_counted_and_refused(fitted):
    vectors, _ = blobs()
    codes = placed(fitted, vectors).codes.copy()
    codes[1::2] = codes[::2]
    report = measure_quality(fitted, vectors, Assignment(nearest=codes, codes=codes, moved=0, shared=600))
    assert report.colliding_after == 1.0
    assert any("share all codes" in reason for reason in quality_verdict(report, QualityBounds()).reasons)


def test_entropy_and_coverage_follow_their_definitions():
    quantiser = ResidualKMeans.of(np.eye(8, dtype=np.float32)[None])
    codes = np.asarray([[0], [0], [1], [2]], dtype=np.int32)
    vectors = quantiser.decode(codes)
    level = measure_quality(quantiser, vectors, Assignment(nearest=codes, codes=codes, moved=0, shared=1)).levels[0]
    assert level.entropy == pytest.approx(1.5)
    assert level.perplexity == pytest.approx(2**1.5)
    assert level.coverage == 3 / 8
    assert level.attainable == 3
    assert level.error == pytest.approx(0.0)


def test_a_catalogue_smaller_than_the_codebook_can_pass():
    vectors = blobs()[0][:30]
    quantiser = ResidualKMeans(ResidualKMeansConfig(codes=64, steps=5)).fit(vectors)
    report = measure_quality(quantiser, vectors, placed(quantiser, vectors))
    assert report.neighbour is None
    assert quality_verdict(report, QualityBounds()).passed


def test_the_report_is_written_as_json(fitted, tmp_path):
    vectors, _ = blobs()
    report = measure_quality(fitted, vectors, placed(fitted, vectors))
    report.write(tmp_path / "quality.json")
    read = json.loads((tmp_path / "quality.json").read_text())
    assert read["items"] == 1200
    assert len(read["levels"]) == 3
