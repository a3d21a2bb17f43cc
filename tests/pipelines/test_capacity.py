"""The command's table and the values that it hands to the chart."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from pipelines.capacity import known
from pipelines.cli import app

ASKED = ["capacity", "--users=1000000", "--items=1000000", "--requests=500", "--p99-ms=200", "--price=2"]
SCHEMA = Path(__file__).resolve().parents[2] / "charts" / "nextpage" / "values.schema.json"


def ask(*more: str) -> str:
    done = CliRunner().invoke(app, [*ASKED, *more])
    assert done.exit_code == 0, done.output
    return done.output


def values(said: str) -> Any:
    return yaml.safe_load(said[said.index("serving:") :])


@pytest.mark.parametrize(("machine", "gpus"), [("cpu", 0), ("L4", 1)])
def test_the_values_are_the_plans_and_the_chart_takes_them(machine: str, gpus: int) -> None:
    said = ask(f"--machine={machine}")
    for_chart = values(said)
    jsonschema.validate(for_chart, json.loads(SCHEMA.read_text()))
    assert for_chart["serving"]["gpus"] == gpus
    [replicas] = re.findall(r"^replicas +(\d+)", said, re.MULTILINE)
    assert for_chart["serving"]["replicas"] == int(replicas)
    assert f"{int(replicas) * 2 * 730:,} a month" in said
    assert ("is assumed" in said) == bool(gpus)


def test_a_model_of_another_size_takes_other_machines() -> None:
    asked = ("--machine=L4", "--requests=5000")
    small, large = ask(*asked), ask(*asked, "--set=model.width=1024", "--set=model.layers=8")
    assert values(large)["serving"]["replicas"] > values(small)["serving"]["replicas"]


def test_measured_figures_take_the_place_of_assumed_ones() -> None:
    machine = known("H100", "0.5,2,0.25")
    assert (machine.share, machine.batch_s, machine.request_s) == (0.5, 0.002, 0.00025)
    assert "is assumed" not in ask("--machine=H100", "--measured=0.5,2,0.25")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("--machine=H300", "machine 'H300' is not known: use one of cpu, H200"),
        ("--p99-ms=1", "fewer beams, a shorter context"),
    ],
)
def test_what_cannot_be_planned_is_said_in_a_sentence(more: str, words: str) -> None:
    done = CliRunner().invoke(app, [*ASKED, more])
    assert done.exit_code == 1
    assert words in done.output
    assert "Traceback" not in done.output
