from pathlib import Path

import pyarrow.parquet as pq
import pytest
from kfp import local

from components.ingest.component import ingest as ingest_component
from components.ingest.step import card, ingest
from nextpage.interactions.log import Dataset


@pytest.fixture
def amazon(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    (source / "Beauty.sequences.txt").write_text("1 10 11 12 10\n2 12 11 10\n")
    (source / "Beauty.item_text.tsv").write_text(
        "item_id\tasin\ttext_id\tlexical_id\tattributes\n" + "".join(f"{item}\tA\tw\tx\ty\n" for item in (10, 11, 12))
    )
    return source


def test_the_summary_counts_what_was_written(amazon: Path, tmp_path: Path) -> None:
    summary = ingest("amazon", f"folder: {amazon}", tmp_path / "raw")
    assert summary == {
        "rows": 7,
        "users": 2,
        "items": 3,
        "pages": 7,
        "exposed": 0,
        "clicked": 0,
        "ordered": 7,
        "train": 3,
        "validation": 2,
        "test": 2,
    }
    assert pq.read_metadata(Dataset(folder=tmp_path / "raw").interactions).num_rows == 7
    text = card("amazon", summary)
    assert "| rows | 7 |" in text
    assert "| validation | 2 |" in text


def test_options_are_json_too_and_must_be_a_mapping(amazon: Path, tmp_path: Path) -> None:
    assert ingest("amazon", f'{{"folder": "{amazon}"}}', tmp_path / "raw")["rows"] == 7
    with pytest.raises(ValueError, match="options 'Beauty' are no mapping: write name: value"):
        ingest("amazon", "Beauty", tmp_path / "raw")


def test_the_component_writes_folder_card_and_metrics(amazon: Path, tmp_path: Path) -> None:
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "runs"), raise_on_error=True)
    task = ingest_component(source="amazon", options=f"folder: {amazon}")
    assert pq.read_metadata(Dataset(folder=Path(task.outputs["raw"].path)).interactions).num_rows == 7
    assert "| users | 2 |" in Path(task.outputs["card"].path).read_text()
    metrics = task.outputs["metrics"].metadata
    assert metrics["rows"] == 7
    assert metrics["seconds"] > 0
    assert metrics["peak_memory_mb"] > 0
