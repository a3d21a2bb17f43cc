"""The components as KFP runs them: in a process of their own, from artifacts to artifacts."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from kfp import dsl, local

from components.require.component import require
from components.validate.component import validate
from nextpage.gates import Verdict
from nextpage.interactions.log import Dataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"), raise_on_error=True)
    return tmp_path / "root"


@dsl.pipeline(name="judge")
def judge(recipe: str, folder: str) -> dsl.Metrics:
    given = dsl.importer(artifact_uri=recipe, artifact_class=dsl.Artifact, reimport=False)
    raw = dsl.importer(artifact_uri=folder, artifact_class=dsl.Dataset, reimport=False)
    judged = validate(recipe=given.output, raw=raw.output)
    require(verdict=judged.outputs["verdict"])
    return judged.outputs["metrics"]


def recipe_asking(min_users: int, folder: Path) -> str:
    path = folder / "recipe.yaml"
    path.write_text(f"name: asking\nvalidation: {{min_users: {min_users}}}\n")
    return str(path)


def written(root: Path, name: str) -> Path:
    (path,) = root.glob(f"*/validate/{name}")
    return path


def test_a_sound_data_set_passes_the_gate_and_leaves_every_artifact(dataset: Dataset, root: Path) -> None:
    metrics = judge(recipe=recipe_asking(20, root.parent), folder=str(dataset.folder)).output.metadata
    assert (metrics["rows"], metrics["interactions_rows"], metrics["quarantined"]) == (5_317, 5_057, 0)
    assert metrics["seconds"] > 0
    assert metrics["peak_memory_mb"] > 0
    assert Verdict.read(written(root, "verdict")).passed
    clean = Dataset(folder=written(root, "clean"))
    assert pq.read_table(clean.interactions).equals(pq.read_table(dataset.interactions))
    assert clean.split() == dataset.split()
    assert pq.read_table(written(root, "quarantine")).num_rows == 0
    assert written(root, "card").read_text().startswith("# Data quality: passed")
    assert "<h1>Data Docs</h1>" in written(root, "docs").read_text()


def test_a_failed_gate_stops_the_run_and_leaves_the_card(dataset: Dataset, root: Path) -> None:
    with pytest.raises(Exception, match="require"):
        judge(recipe=recipe_asking(1_000, root.parent), folder=str(dataset.folder))
    assert "too few users in the log: 60, the bound is at least 1,000" in written(root, "card").read_text()
    assert not Verdict.read(written(root, "verdict")).passed
