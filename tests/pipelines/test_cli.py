"""The command line without a run: what it imports, what it refuses."""

import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from pipelines.cli import app

HEAVY = ("torch", "feast", "kfp", "kserve", "evidently", "great_expectations", "deepspeed", "pandas", "pyarrow")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pipelines.cli import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "HEAVY []" in shown
    for command in ("run", "experiment", "compile", "submit", "serve", "recommend", "inspect", "rollout", "drain"):
        assert command in shown


def test_compile_writes_the_pipeline(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["compile", "--output", str(tmp_path)])
    assert result.exit_code == 0, result.output
    names = ("recommender", "rollout", "monitoring")
    assert result.output.split() == [str(tmp_path / f"{name}.yaml") for name in names]


def test_inspect_refuses_a_folder_that_is_no_release(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(tmp_path)])
    assert result.exit_code == 1
    assert "is no release: it has no manifest.json" in result.output


def test_recommend_without_a_features_folder_says_which_option_names_one(tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    result = CliRunner().invoke(app, ["recommend", str(tmp_path / "release"), "--user", "1"])
    assert result.exit_code != 0
    assert "--features" in result.output


def test_experiment_refuses_a_run_without_a_release(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["experiment", str(tmp_path)])
    assert result.exit_code == 1
    assert "holds no release" in result.output
