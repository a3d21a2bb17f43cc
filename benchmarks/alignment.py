"""Print GenRec's Table 3 for us: what each way of alignment does to hits, reward and invented codes, on two data sets.

    python benchmarks/alignment.py [--data journey movielens] [--seeds 0 1 2] [--run runs/demo] [--only GRPO-SR …]

Of each seed a base model (SFT) and a reward model are trained, and the base is aligned in each way by the recipe's
settings with the overrides below, the same for all seeds; they were chosen on validation requests. All figures are of
the test requests, full catalogue, without the repeat prior. R@K is the highest preference that the seed's own reward
model finds among the first K items, ungated, so that gated and ungated runs are held against one measure; reward is
the mean preference of the first ten; HaR the share of codes, generated without the trie, that name no item; below τ the
share of the first ten that the gate would stop. ± is the standard deviation over seeds. An ordering *holds* where every
seed shows it, *fails* where every seed shows the contrary, and is *open* otherwise. What is made is kept under
`--work`, so that a run that was stopped goes on.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from bases import REPEATS, TITLE, Data, arguments, base, invalid_share, key, prepare, trial_of
from safetensors.torch import load_file, save_file

from nextpage.alignment.align import align
from nextpage.alignment.catalogue import Catalogue, read_catalogue
from nextpage.alignment.ground import Ground, read_ground
from nextpage.alignment.reward_items import RewardItems
from nextpage.alignment.reward_model import RewardModel, RewardModelConfig, read, write
from nextpage.alignment.reward_training import train_reward_model
from nextpage.alignment.reward_validation import held_out_histories, measure_reward_model
from nextpage.alignment.rewards import Judge, RewardsConfig, preference, relevance
from nextpage.evaluation.metrics import DEPTH, ranking_metrics, without_seen
from nextpage.interactions.sequences import Sequences
from nextpage.recommender import Recommender
from nextpage.training.deepspeed_engine import join, leave

PLAIN, OPEN = "alignment.policy.nll_weight=0", "rewards.gate=null"
PAIRS = (
    "alignment.objective=preference",
    "alignment.loop.steps=80",
    "alignment.loop.learning_rate=0.00002",
    "alignment.interpolation=1",
)
WAYS: dict[str, tuple[str, ...]] = {
    "GRPO": (PLAIN,),
    "GRPO-SR": (),
    "GRPO without the gate": (PLAIN, OPEN),
    "GRPO-SR without the gate": (OPEN,),
    "DPO": (*PAIRS, "alignment.preference.rejected=1"),
    "S-DPO": PAIRS,
}
SFT = "SFT"
UNWATCHED = ("alignment.watched=1", "alignment.loop.log_every=100000")
TOGETHER = 32
COLUMNS = ("HR@50", "R@1", "R@10", "R@50", "HaR", "reward", "HR@10", "Recall@10", "below τ")
ORDERINGS: tuple[tuple[str, Callable[[dict[str, dict[str, float]]], bool]], ...] = (
    ("GRPO-SR above SFT on R@1", lambda f: f["GRPO-SR"]["R@1"] > f[SFT]["R@1"]),
    ("GRPO-SR above SFT on R@10", lambda f: f["GRPO-SR"]["R@10"] > f[SFT]["R@10"]),
    ("GRPO-SR above SFT on HR@50", lambda f: f["GRPO-SR"]["HR@50"] > f[SFT]["HR@50"]),
    ("GRPO above SFT on R@1", lambda f: f["GRPO"]["R@1"] > f[SFT]["R@1"]),
    ("GRPO above SFT on HR@50", lambda f: f["GRPO"]["HR@50"] > f[SFT]["HR@50"]),
    ("GRPO-SR above GRPO on HR@50", lambda f: f["GRPO-SR"]["HR@50"] > f["GRPO"]["HR@50"]),
    ("GRPO-SR above GRPO on R@1", lambda f: f["GRPO-SR"]["R@1"] > f["GRPO"]["R@1"]),
    ("GRPO raises HaR", lambda f: f["GRPO"]["HaR"] > f[SFT]["HaR"]),
    ("GRPO-SR lowers HaR", lambda f: f["GRPO-SR"]["HaR"] < f[SFT]["HaR"]),
    ("without the gate HR@50 is below SFT", lambda f: f["GRPO-SR without the gate"]["HR@50"] < f[SFT]["HR@50"]),
    (
        "without the gate reward rises and Recall@10 falls (hacking)",
        lambda f: (
            f["GRPO-SR without the gate"]["reward"] > f[SFT]["reward"]
            and f["GRPO-SR without the gate"]["Recall@10"] < f[SFT]["Recall@10"]
        ),
    ),
)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--only", nargs="+", default=[SFT, *WAYS], choices=[SFT, *WAYS])
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    join()
    for name in given.data:
        data = prepare(name, given.work, run=given.run, movielens=given.movielens)
        print(f"\n{TITLE[name]}: {len(given.seeds)} seeds", flush=True)
        found = {seed: of_seed(data, seed, given.only, given.work, given.threads) for seed in given.seeds}
        show(found, given.only)
    leave()


def of_seed(data: Data, seed: int, ways: list[str], work: Path, threads: int) -> dict[str, dict[str, float]]:
    """Figures by way."""
    release = base(data, seed, threads=threads)
    ground = read_ground(release, data.features, data.clean)
    catalogue = read_catalogue(release, ground.dataset)
    judge = Judge(catalogue=catalogue, reward_model=reward_model(ground, catalogue, data, seed, work))
    figures = {}
    for way in ways:
        settings = (*WAYS.get(way, ()), *UNWATCHED, f"alignment.loop.seed={seed}")
        own = replace(ground, recipe=data.recipe(*settings, f"training.seed={seed}"))
        sections = {part: own.recipe.sections[part] for part in ("rewards", "alignment", "reward_model")}
        settled = sections["reward_model"] if way == SFT else sections
        folder = work / "aligned" / key([data.name, seed, release.parent.name, way == SFT, settled])
        if not (folder / "figures.json").exists():
            weights = ground.base().state_dict() if way == SFT else aligned(own, judge, folder)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "figures.json").write_text(json.dumps(measured(own, judge, weights, data), indent=1))
        figures[way] = json.loads((folder / "figures.json").read_text())
        print(f"  seed {seed} {way}: " + " ".join(f"{n} {figures[way][n]:.4f}" for n in COLUMNS), flush=True)
    return figures


def reward_model(ground: Ground, catalogue: Catalogue, data: Data, seed: int, work: Path) -> RewardModel:
    """The seed's own, trained once; how well it judges is printed."""
    config = data.recipe(f"reward_model.loop.seed={seed}").part("reward_model", RewardModelConfig)
    folder = work / "reward" / key([data.name, data.recipe(f"reward_model.loop.seed={seed}").sections["reward_model"]])
    if not (folder / "reward_model.json").exists():
        items = RewardItems.of(catalogue, ground.slices)
        write(train_reward_model(config, items, ground.slices, folder), folder)
    model = read(folder)
    quality = measure_reward_model(model, held_out_histories(ground.dataset, data.item_ids))
    shown = f"AUC {quality.auc:.3f}, by user {quality.user_auc:.3f}, within the own history {quality.own_auc:.3f}"
    print(f"  seed {seed} reward model: {shown}, calibration error {quality.calibration_error:.4f}", flush=True)
    return model


def aligned(ground: Ground, judge: Judge, folder: Path) -> dict[str, torch.Tensor]:
    if not (folder / "weights.safetensors").exists():
        weights = align(ground, judge, folder)
        save_file(weights, folder / "weights.safetensors")
    return load_file(folder / "weights.safetensors")


def measured(ground: Ground, judge: Judge, weights: dict[str, torch.Tensor], data: Data) -> dict[str, float]:
    """Figures of a model on the test requests."""
    trial, prompts = trial_of(data, "test")
    ranking, truth = ranked(ground, weights, data, prompts), trial.truth
    if not REPEATS[data.name]:
        ranking, truth = without_seen(ranking, trial.histories), trial.new_truth
    reward = preference(prompts, ranking, judge)
    gate = RewardsConfig().gate
    assert gate is not None
    irrelevant = relevance(prompts, np.maximum(ranking, 0), judge)[:, :10] <= gate
    hits = {name: float(np.nanmean(values)) for name, values in ranking_metrics(ranking, truth).items()}
    recommender = opened(ground, weights)
    return hits | {
        **{f"R@{cutoff}": float(reward[:, :cutoff].max(axis=1).mean()) for cutoff in (1, 10, 50)},
        "reward": float(reward[:, :10].mean()),
        "HaR": invalid_share(recommender, prompts),
        "below τ": float(irrelevant.mean()),
    }


def ranked(ground: Ground, weights: dict[str, torch.Tensor], data: Data, prompts: Sequences) -> np.ndarray:
    """The model's ranking, int32 [R, 50]; of new items only, where users do not come back to any."""
    if not REPEATS[data.name]:
        return opened(ground, weights).rankings(prompts, DEPTH).new
    ranking, generation = np.zeros((len(prompts), DEPTH), dtype=np.int32), ground.as_released(weights)
    order = np.argsort(np.diff(prompts.offset), kind="stable")  # so that a batch pads little
    for start in range(0, len(prompts), TOGETHER):
        rows = order[start : start + TOGETHER]
        ranking[rows] = generation.beams(prompts.take(rows), DEPTH).rows.numpy()
    return ranking


def opened(ground: Ground, weights: dict[str, torch.Tensor]) -> Recommender:
    model = ground.base().cpu()
    model.load_state_dict(weights)
    items = pq.read_table(ground.release / "items.parquet")
    return Recommender(decoder=model, semantic_ids=ground.semantic_ids, items=items, recipe=ground.recipe)


def show(found: dict[int, dict[str, dict[str, float]]], ways: list[str]) -> None:
    """The table, the bar, and which of the paper's orderings hold."""
    print("\n| | " + " | ".join(COLUMNS) + " |\n|---|" + "---:|" * len(COLUMNS))
    for way in ways:
        columns = [np.array([figures[way][name] for figures in found.values()]) for name in COLUMNS]
        cells = [f"{values.mean():.4f} ± {values.std(ddof=min(1, len(values) - 1)):.4f}" for values in columns]
        print(f"| {way} | " + " | ".join(cells) + " |")
    if not {SFT, *WAYS} <= set(ways):
        return
    of = {way: {n: np.mean([f[way][n] for f in found.values()]) for n in COLUMNS} for way in (SFT, "GRPO-SR")}
    raised = of["GRPO-SR"]["R@1"] / of[SFT]["R@1"] - 1
    held = raised >= 0.1 and of["GRPO-SR"]["HR@50"] >= of[SFT]["HR@50"]
    print(
        f"\nGRPO-SR against SFT: R@1 {raised:+.1%} (bar +10%), HR@50 "
        f"{of['GRPO-SR']['HR@50'] - of[SFT]['HR@50']:+.4f} (bar 0): {'held' if held else 'MISSED'}\n"
    )
    for ordering, shows in ORDERINGS:
        seen = [shows(figures) for figures in found.values()]
        print(
            f"- {ordering}: {'holds' if all(seen) else 'fails' if not any(seen) else 'open'} ({sum(seen)}/{len(seen)})"
        )


if __name__ == "__main__":
    main()
