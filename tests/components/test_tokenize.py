import json
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from components.tokenize.card import card
from components.tokenize.component import tokenize as component
from components.tokenize.step import tokenize
from nextpage.gates import Verdict
from nextpage.tokenizers.item_tokenizer import ItemTokenizer, TokenizerConfig
from nextpage.tokenizers.quality import QualityBounds
from nextpage.tokenizers.residual_kmeans import ResidualKMeansConfig
from nextpage.tokenizers.semantic_ids import SemanticIds

CONFIG = TokenizerConfig(quantiser=ResidualKMeansConfig(codes=16, steps=10))


def test_every_item_of_a_dataset_gets_codes_of_its_own(dataset, tmp_path):
    result = tokenize(dataset.folder, tmp_path / "tokenizer", CONFIG)
    assert result.verdict.passed, result.verdict.reasons
    ids = SemanticIds.read(tmp_path / "tokenizer" / "semantic_ids.parquet")
    assert sorted(ids.item_ids) == sorted(pq.read_table(dataset.items)["item_id"].to_pylist())
    assert len(np.unique(ids.codes, axis=0)) == len(ids.item_ids)
    assert json.loads((tmp_path / "tokenizer" / "quality.json").read_text())["items"] == len(ids.item_ids)
    assert {path.suffix for path in (tmp_path / "tokenizer").iterdir()} == {".parquet", ".safetensors", ".json"}


def test_codes_do_not_depend_on_what_happens_after_training(dataset, tmp_path):
    tokenize(dataset.folder, tmp_path / "before", CONFIG)
    table = pq.read_table(dataset.interactions)
    validation_start = dataset.split().validation_start
    item = [
        "i0000" if moment >= validation_start else item
        for moment, item in zip(table["timestamp"].to_pylist(), table["item_id"].to_pylist(), strict=True)
    ]
    column = table.column_names.index("item_id")
    pq.write_table(table.set_column(column, table.schema.field("item_id"), [item]), dataset.interactions)
    tokenize(dataset.folder, tmp_path / "after", CONFIG)
    before, after = (tmp_path / name / "semantic_ids.parquet" for name in ("before", "after"))
    np.testing.assert_array_equal(SemanticIds.read(before).codes, SemanticIds.read(after).codes)


def test_two_runs_write_the_same_bytes(dataset, tmp_path):
    for name in ("first", "second"):
        tokenize(dataset.folder, tmp_path / name, CONFIG)
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name


def test_the_written_tokenizer_takes_new_items(dataset, tmp_path):
    tokenize(dataset.folder, tmp_path / "tokenizer", CONFIG)
    ids = SemanticIds.read(tmp_path / "tokenizer" / "semantic_ids.parquet")
    grown = ItemTokenizer.load(tmp_path / "tokenizer").assign_new(ids, ["new"], ["milk brand 3 kind 99"])
    assert len(np.unique(grown.codes, axis=0)) == len(ids.item_ids) + 1


def test_a_card_shows_levels_and_why_it_was_refused(dataset, tmp_path):
    result = tokenize(dataset.folder, tmp_path / "tokenizer", CONFIG, QualityBounds(error_at_most=0.01))
    shown = card(result.report, result.verdict)
    assert "# Semantic IDs: refused" in shown
    assert "variance unexplained, the bound is 1.0%" in shown
    assert [f"| {level} | 16 |" in shown for level in (1, 2, 3, 4)] == [True, True, True, False]


@pytest.mark.parametrize(("error_at_most", "passes"), [(0.7, True), (0.01, False)])
def test_the_component_follows_the_recipe_and_leaves_card_verdict_and_metrics(dataset, tmp_path, error_at_most, passes):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"name: small\ntokenizer:\n  quantiser: {{codes: 16}}\ntokenizer_quality: {{error_at_most: {error_at_most}}}\n"
    )
    logged: dict[str, float] = {}
    component.python_func(
        recipe=SimpleNamespace(path=str(recipe)),
        clean=SimpleNamespace(path=str(dataset.folder)),
        tokenizer=SimpleNamespace(path=str(tmp_path / "tokenizer")),
        card=SimpleNamespace(path=str(tmp_path / "card.md")),
        verdict=SimpleNamespace(path=str(tmp_path / "verdict.json")),
        metrics=SimpleNamespace(log_metric=logged.__setitem__),
    )
    assert Verdict.read(tmp_path / "verdict.json").passed == passes
    assert ("passed" if passes else "refused") in (tmp_path / "card.md").read_text()
    assert SemanticIds.read(tmp_path / "tokenizer" / "semantic_ids.parquet").sizes == (16, 16, 16)
    assert logged["colliding_after"] == 0.0
    assert {"coverage_0", "perplexity_2", "error", "seconds", "peak_memory_mb"} <= set(logged)
