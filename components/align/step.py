"""Alignment as processes of its own, and the candidate that goes on: the aligned model, or its base."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.placement import Placement
from components.processes import run_processes, work_folder
from nextpage.gates import Verdict
from nextpage.recipes import Recipe, read_recipe
from nextpage.release import MANIFEST, Manifest, seal, verify

WEIGHTS = "weights.safetensors"
OUTCOME = "alignment.json"
SHOWN = ("reward@10", "Recall@10", "hallucination_rate")
"""Of the figures before and after, those that the list of metrics holds."""


def align(
    *,
    base: Path,
    features: Path,
    clean: Path,
    candidate: Path,
    checkpoints: Path,
    placement: Placement | None = None,
) -> dict[str, Any]:
    """Align the sealed release `base` as its recipe says and fill the folder `candidate`; returns the outcome.

    The candidate has the aligned weights where the gate passed and the base's where it did not, and the outcome as
    `alignment.json`: `verdict`; `base`, `aligned` and their `differences` by figure, empty where nothing was trained;
    `reward_model`; `objective`; `trained`; `course`, figures at steps along the way; `recipe`, what it followed.

    Raises ReleaseRefused where the base is not as it was sealed, and RuntimeError where the process fails: run again,
    it goes on from its checkpoints.
    """
    sealed = verify(base)
    asked = (features / name for name in ("training.parquet", "evaluation.parquet"))
    work = work_folder(checkpoints, [*(base / path for path in sealed.files), *asked, *sorted(clean.iterdir())])
    told = {"release": base, "features": features, "dataset": clean, "output": work}
    run_processes("alignment", "nextpage.alignment", told, result="outcome.json", placement=placement)
    outcome = _outcome(work, read_recipe(base / "recipe.yaml"))
    make_candidate(base=base, outcome=outcome, aligned=work / WEIGHTS, candidate=candidate)
    shutil.rmtree(work)
    judged = verdict(outcome)
    print(f"the {'aligned model' if judged.passed else 'base'} goes on: {'; '.join(judged.reasons)}")
    return outcome


def make_candidate(*, base: Path, outcome: dict[str, Any], aligned: Path, candidate: Path) -> Manifest:
    """The base with the outcome inside, and with the weights `aligned` where the gate passed; sealed anew."""
    sealed = verify(base)
    shutil.copytree(base, candidate, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
    if verdict(outcome).passed:
        shutil.copy2(aligned, candidate / WEIGHTS)
    (candidate / OUTCOME).write_text(as_json(outcome))
    return seal(candidate, name=sealed.name, recipe=sealed.recipe, feature_service=sealed.feature_service)


def verdict(outcome: dict[str, Any]) -> Verdict:
    return Verdict(**outcome["verdict"] | {"reasons": tuple(outcome["verdict"]["reasons"])})


def figures(outcome: dict[str, Any]) -> dict[str, float]:
    """Under names that a list of metrics can hold: base_reward_10, aligned_reward_10 and so on."""
    found = {
        f"{which}_{name.replace('@', '_')}": outcome[which].get(name) for which in ("base", "aligned") for name in SHOWN
    }
    found["reward_model_auc"] = outcome["reward_model"].get("auc")
    return {name: value for name, value in found.items() if value is not None}


def as_json(outcome: dict[str, Any]) -> str:
    return json.dumps(outcome, indent=1, allow_nan=False)


def _outcome(work: Path, recipe: Recipe) -> dict[str, Any]:
    """What the process found, its course, and the settings that it followed."""
    from nextpage.alignment.config import AlignmentConfig
    from nextpage.alignment.course import COURSE, read_course
    from nextpage.alignment.reward_model import RewardModelConfig
    from nextpage.alignment.rewards import RewardsConfig

    parts = {"reward_model": RewardModelConfig, "rewards": RewardsConfig, "alignment": AlignmentConfig}
    outcome = {
        **json.loads((work / "outcome.json").read_text()),
        "course": read_course(work / COURSE),
        "recipe": {section: asdict(recipe.part(section, kind)) for section, kind in parts.items()},
    }
    return json.loads(json.dumps(outcome), parse_constant=lambda _: None)  # JSON has no NaN: what has no value is null
