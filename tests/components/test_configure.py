"""A run's recipe is resolved once, and what is misspelt stops it before it starts."""

import json
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl, local

from components.configure.component import configure
from components.configure.step import resolve
from nextpage.recipes import read_recipe
from nextpage.tokenizers.item_tokenizer import TokenizerConfig
from nextpage.training.config import TrainingConfig


def test_the_shipped_recipe_resolves_as_it_is() -> None:
    assert resolve("genrec", []) == read_recipe("genrec")


def test_a_recipe_may_come_as_its_text() -> None:
    chosen = resolve("name: mine\ntraining: {steps: 7}\n", ["training.learning_rate=0.5"])
    assert chosen.name == "mine"
    assert chosen.part("training", TrainingConfig) == TrainingConfig(steps=7, learning_rate=0.5)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.step=7", "genrec: training sets step = 7, which TrainingConfig has not: use steps"),
        ("tokenizer.quantiser.code=7", "genrec: tokenizer.quantiser sets code = 7, which ResidualKMeansConfig has"),
        ("traning.steps=7", "'traning.steps=7' names no section of recipe 'genrec': validation, features"),
        ("steps=7", "setting 'steps=7' is not of the form section.key=value"),
        ("training.steps=0", "steps is 0: use at least 1"),
        ("layout.page_wise=2", "page_wise is 2"),
        ("repeat_prior.weight=1", "the repeat prior's weight is 1"),
        ("experiment.horizon_days=9", "a horizon of 9 days is no multiple of promotion_days 7"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_runs(setting: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve("genrec", [setting])


def test_a_section_that_no_part_reads_is_named() -> None:
    with pytest.raises(ValueError, match="recipe 'mine' has sections that no part reads: aligment, traning"):
        resolve("name: mine\ntraning: {}\naligment: {}\n", [])


@dsl.pipeline(name="configuring")
def configuring(recipe: str, settings: str) -> dsl.Artifact:
    chosen = configure(recipe=recipe, settings=settings)
    return chosen.outputs["resolved"]


def test_the_component_writes_the_recipe_with_its_overrides(tmp_path: Path) -> None:
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path), raise_on_error=True)
    settings = "training.steps=9 layout.page_wise=1 tokenizer.encoder=minilm"
    run = configuring(recipe="genrec", settings=settings)
    written = Path(run.output.path)
    assert written.read_text() == resolve("genrec", settings.split()).to_yaml()
    (card,) = tmp_path.glob("*/configure/card")
    assert card.read_text().startswith("# Recipe genrec\n")
    assert "steps: 9" in card.read_text()
    (told,) = tmp_path.glob("*/configure/executor_output.json")
    assert json.loads(told.read_text())["artifacts"]["metrics"]["artifacts"][0]["metadata"]["settings"] == 3


def outputs(folder: Path) -> dict[str, Any]:
    kinds = {"resolved": dsl.Artifact, "card": dsl.Markdown, "metrics": dsl.Metrics}
    return {name: kind(uri=str(folder / name)) for name, kind in kinds.items()}


def test_the_component_fails_on_a_setting_that_no_part_knows_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="training sets step = 9"):
        configure.python_func(recipe="genrec", settings="training.step=9", **outputs(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_named_override_that_is_given_reaches_its_part() -> None:
    chosen = resolve("genrec", ["tokenizer.encoder=minilm", "tokenizer.quantiser.codes=16"])
    assert chosen.part("tokenizer", TokenizerConfig).quantiser.codes == 16
    assert chosen.part("tokenizer", TokenizerConfig).encoder == "minilm"


@pytest.mark.parametrize(
    ("rollout", "rolled_out"), [("", False), ("{records: r, storage: 'r/{hash}', events: e}", True)]
)
def test_the_component_says_whether_there_will_be_a_rollout(tmp_path: Path, rollout: str, rolled_out: bool) -> None:
    assert configure.python_func(recipe="genrec", rollout=rollout, **outputs(tmp_path)) is rolled_out


def test_a_rollout_that_cannot_be_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="strategy 'httprout' of the rollout: use auto, local, httproute"):
        configure.python_func(
            recipe="genrec",
            rollout="{strategy: httprout, records: r, storage: 'r/{hash}', events: e}",
            **outputs(tmp_path),
        )


def test_an_engine_that_is_not_there_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="engine 'sprak' is unknown: use duckdb or spark"):
        configure.python_func(recipe="genrec", data_engine="sprak", **outputs(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="engine 'spark' needs pyspark, and it is not here: pip install"):
        configure.python_func(recipe="genrec", data_engine="spark", **outputs(tmp_path))
