"""A candidate becomes a release with its figures, or is refused."""

import json
from pathlib import Path

import pytest
from kfp import dsl, local

from components.release.component import release
from components.release.step import make_release, release_card, rule_of
from nextpage.experiments.rule import read_rule
from nextpage.recipes import read_recipe
from nextpage.release import FeatureService, Manifest, ReleaseRefused, read_manifest, seal, verify

SERVICE = FeatureService(name="recommender_r1", hash="f00d" * 16)


@pytest.fixture
def candidate(tmp_path: Path) -> Path:
    folder = tmp_path / "candidate"
    (folder / "tokenizer").mkdir(parents=True)
    for path in ("weights.safetensors", "recipe.yaml", "tokenizer/vectors.safetensors"):
        (folder / path).write_text(f"bytes of {path}")
    (folder / "recipe.yaml").write_text("name: genrec\n")
    seal(folder, name="candidate", recipe="genrec", feature_service=SERVICE)
    return folder


def made(candidate: Path, folder: Path, name: str = "week 12") -> Manifest:
    folder.mkdir(exist_ok=True)
    (folder / "figures").write_text(json.dumps({"model": {"HR@10": 0.5}}))
    (folder / "model_card").write_text("# Model card")
    return make_release(
        candidate=candidate,
        metrics=folder / "figures",
        card=folder / "model_card",
        release=folder / "release",
        name=name,
    )


def test_a_release_is_its_candidate_with_figures_and_card(candidate: Path, tmp_path: Path) -> None:
    manifest = made(candidate, tmp_path)
    release = tmp_path / "release"
    assert verify(release) == manifest
    assert set(manifest.files) == {*read_manifest(candidate).files, "metrics.json", "card.md"}
    for path, digest in read_manifest(candidate).files.items():
        assert manifest.files[path] == digest
    assert json.loads((release / "metrics.json").read_text())["model"]["HR@10"] == 0.5
    assert (release / "card.md").read_text() == "# Model card"
    assert (manifest.name, manifest.recipe, manifest.feature_service) == ("week 12", "genrec", SERVICE)


def test_the_candidate_stays_as_it_was(candidate: Path, tmp_path: Path) -> None:
    before = verify(candidate)
    made(candidate, tmp_path)
    assert verify(candidate) == before


@pytest.mark.parametrize("path", ["weights.safetensors", "recipe.yaml", "tokenizer/vectors.safetensors"])
def test_a_candidate_that_was_changed_is_refused_and_nothing_is_released(
    candidate: Path, tmp_path: Path, path: str
) -> None:
    (candidate / path).write_text("other bytes")
    with pytest.raises(ReleaseRefused, match=f"{path} is not the file that release 'candidate' was sealed with"):
        made(candidate, tmp_path)
    assert not (tmp_path / "release").exists()


def test_an_unsealed_candidate_is_refused(candidate: Path, tmp_path: Path) -> None:
    (candidate / "manifest.json").unlink()
    with pytest.raises(ReleaseRefused, match=r"is no release: it has no manifest.json"):
        made(candidate, tmp_path)


def test_the_card_names_every_file_and_what_the_release_reads(candidate: Path, tmp_path: Path) -> None:
    manifest = made(candidate, tmp_path)
    card = release_card(manifest)
    assert card.startswith("# Release week 12")
    assert manifest.hash in card
    assert "recommender_r1" in card
    assert [path for path in manifest.files if f"| `{path}` | `{manifest.files[path][:12]}` |" not in card] == []


@dsl.pipeline(name="releasing")
def releasing(candidate: str, figures: str, model_card: str) -> dsl.Model:
    sources = {
        "candidate": dsl.importer(artifact_uri=candidate, artifact_class=dsl.Model, reimport=False).output,
        "figures": dsl.importer(artifact_uri=figures, artifact_class=dsl.Artifact, reimport=False).output,
        "model_card": dsl.importer(artifact_uri=model_card, artifact_class=dsl.Markdown, reimport=False).output,
    }
    return release(**sources, name="week 12").outputs["release"]


def test_the_component_seals_a_release_and_hands_on_its_hash(candidate: Path, tmp_path: Path) -> None:
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"), raise_on_error=True)
    (tmp_path / "figures").write_text("{}")
    (tmp_path / "model_card").write_text("# Model card")
    run = releasing(
        candidate=str(candidate), figures=str(tmp_path / "figures"), model_card=str(tmp_path / "model_card")
    )
    manifest = verify(Path(run.output.path))
    assert manifest.name == "week 12"
    assert run.output.metadata["hash"] == manifest.hash


def test_the_rule_of_its_experiment_lies_in_the_release_under_its_hash(candidate: Path, tmp_path: Path) -> None:
    (candidate / "recipe.yaml").write_text(read_recipe("genrec").to_yaml())
    seal(candidate, name="candidate", recipe="genrec", feature_service=SERVICE)
    manifest = made(candidate, tmp_path, "week 12")
    rule = read_rule(tmp_path / "release" / "rule.yaml")
    assert rule.experiment == "week 12"
    assert rule.primary.metric == "orders per request"
    assert rule.promotion == "approval"
    assert rule == rule_of(read_recipe("genrec"), "week 12")
    assert "rule.yaml" in manifest.files
    (tmp_path / "release" / "rule.yaml").write_text(rule.to_yaml().replace("approval", "auto"))
    with pytest.raises(ReleaseRefused, match=r"rule.yaml is not the file that release 'week 12' was sealed with"):
        verify(tmp_path / "release")
