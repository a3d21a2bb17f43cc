"""Training as processes of its own, and the candidate release made of what they leave."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.placement import Placement
from components.processes import run_processes, work_folder
from nextpage.interactions.histories import training_histories
from nextpage.interactions.log import BEHAVIOURS, Dataset
from nextpage.recipes import read_recipe
from nextpage.release import FeatureService, Manifest, seal
from nextpage.tokenizers.semantic_ids import SemanticIds

LEARNT_FROM = "features.json"  # what the features step says of its log: a release tells how far it knows the world
WEIGHTS, DECODER, LOG = "weights.safetensors", "decoder.json", "log.jsonl"


def train(
    *,
    features: Path,
    tokenizer: Path,
    recipe: Path,
    model: Path,
    checkpoints: Path,
    placement: Placement | None = None,
) -> dict[str, float]:
    """Fill the folder `model` with decoder, weights and log; returns the last log line.

    A killed run is taken up again: under `checkpoints` the run's folder is named by a hash of all that it learns from,
    so it is found again by the same inputs and by no others.
    """
    histories, semantic_ids = features / "training.parquet", tokenizer / "semantic_ids.parquet"
    work = work_folder(checkpoints, (histories, semantic_ids, recipe))
    told = {"histories": histories, "semantic-ids": semantic_ids, "recipe": recipe, "output": work}
    run_processes("training", "nextpage.training", told, result=WEIGHTS, placement=placement)
    model.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS, DECODER, LOG):
        shutil.copy2(work / name, model / name)
    shutil.rmtree(work)
    return {name: float(value) for name, value in read_log(model)[-1].items()}


def make_candidate(
    *, features: Path, tokenizer: Path, clean: Path, recipe: Path, model: Path, candidate: Path
) -> Manifest:
    """A sealed release without figures: what `evaluate` measures."""
    candidate.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS, DECODER):
        shutil.copy2(model / name, candidate / name)
    shutil.copytree(tokenizer, candidate / "tokenizer", dirs_exist_ok=True)
    (candidate / "tokenizer" / "semantic_ids.parquet").replace(candidate / "semantic_ids.parquet")
    shutil.copy2(recipe, candidate / "recipe.yaml")
    pq.write_table(_items(clean, SemanticIds.read(candidate / "semantic_ids.parquet")), candidate / "items.parquet")
    shutil.copy2(features / LEARNT_FROM, candidate / LEARNT_FROM)
    service = json.loads((candidate / LEARNT_FROM).read_text())
    return seal(
        candidate,
        name="candidate",
        recipe=read_recipe(candidate / "recipe.yaml").name,
        feature_service=FeatureService(name=service["service"], hash=service["service_hash"]),
    )


def read_log(model: Path) -> list[dict[str, float]]:
    """The lines of the training log, in order."""
    return [json.loads(line) for line in (model / LOG).read_text().splitlines()]


def card(model: Path, candidate: Manifest) -> str:
    """How training went, as Markdown."""
    lines = read_log(model)
    shown = [lines[row] for row in sorted({round(at * (len(lines) - 1) / 9) for at in range(10)})]
    seconds, tokens = (sum(line[name] for line in lines) for name in ("seconds", "tokens"))
    rows = "\n".join(
        f"| {line['step']:,.0f} | {line['loss']:.3f} | {line['tokens_per_second']:,.0f} | {line['mfu']:.0%} |"
        for line in shown
    )
    return f"""# Training

{tokens:,.0f} tokens in {seconds:,.0f} s; loss {lines[0]["loss"]:.3f} → {lines[-1]["loss"]:.3f} nats a code.
Candidate `{candidate.hash[:12]}` by recipe `{candidate.recipe}`.

| step | loss | tokens/s | MFU |
|---:|---:|---:|---:|
{rows}

MFU: the model's floating-point operations as a share of what a large matrix product reached on this machine.
"""


def _items(clean: Path, semantic_ids: SemanticIds) -> pa.Table:
    """The catalogue in row order, with how often each item was ordered in training: `orders`."""
    dataset = Dataset(folder=clean)
    items = pq.read_table(dataset.items)
    row = pc.index_in(pa.array(semantic_ids.item_ids, pa.string()), value_set=items["item_id"].cast(pa.string()))
    history = training_histories(dataset, list(semantic_ids.item_ids))
    ordered = history.item[history.behaviour == BEHAVIOURS.index("ordered")]
    orders = np.bincount(ordered, minlength=len(semantic_ids.item_ids))
    return items.take(row).append_column("orders", pa.array(orders, pa.int64()))
