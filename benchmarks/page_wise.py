"""Print what two choices of GenRec are worth: learning whole pages, and merging an item's codes in the prompt.

    python benchmarks/page_wise.py [--data journey movielens] [--seeds 0 1 2] [--run runs/demo] [--only learn|prefill]

Trains, for every seed, a model of each arm with the data set's recipe and equal steps: `point-wise` (each item of a
page from the history alone), `half and half` (the recipe's: half of the pages so, half page-wise), `page-wise` (a page
item after item), and `without merger` (half and half, each code of the history a token of its own). Test requests,
full catalogue, no prior. Invalid: generated without the trie, 50 beams. Losses in nats a code: *learnt*, of the last
tenth of training, each arm by its own layout; *item* and *page*, on held-out validation pages, each item from the
history alone, and page-wise in random order, the same for all arms. ± is the standard deviation over seeds. An ordering
*holds* where every seed shows it, *fails* where every seed shows the contrary, and is *open* otherwise.

`prefill` times, in turns, reading a prompt and learning from a batch, with and without the merger, on the models of the
first seed. What is trained and measured is kept under `--work`, so that a run that was stopped goes on.
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from bases import TITLE, Data, arguments, base, figures, prepare, trial_of
from safetensors.torch import load_file

from nextpage.decoding.engines.eager import EagerEngine
from nextpage.decoding.prompts import prompts_of
from nextpage.interactions.sequences import Sequences, sequences_from_table
from nextpage.layouts.packed import Packed
from nextpage.layouts.pages import PagesConfig, lay_out
from nextpage.models.decoder import CausalDecoder
from nextpage.objectives.next_token import next_token_loss, token_losses
from nextpage.recipes import read_recipe
from nextpage.recommender import DecodingConfig, read_decoder
from nextpage.tokenizers.semantic_ids import SemanticIds
from nextpage.tokenizers.vocabulary import Vocabulary
from nextpage.training import checkpoints
from nextpage.training.batches import Batches
from nextpage.training.config import TrainingConfig

POINT, HALF, PAGE, UNMERGED = "point-wise", "half and half", "page-wise", "without merger"
ARMS = {
    POINT: ("layout.page_wise=0",),
    HALF: ("layout.page_wise=0.5",),
    PAGE: ("layout.page_wise=1",),
    UNMERGED: ("layout.page_wise=0.5", "layout.merged=false"),
}
SIZE = {"journey": ("training.steps=400",), "movielens": ()}
"""Less than the recipe where every arm at its size would take hours."""
KEPT = ("training.checkpoint_every=100", "training.keep_checkpoints=100")
METRICS = ("HR@1", "HR@10", "HR@50", "Recall@10", "Recall@50", "NDCG@10")
HELD_OUT, HELD_OUT_EVENTS = 300, 192
"""Validation requests, and events of their histories, that held-out losses are of."""

Result = dict[str, float]
Results = dict[str, list[Result]]
"""Of each arm, the figures of every seed."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--only", choices=("learn", "prefill"))
    parser.add_argument("--repeats", type=int, default=40, help="timed prompts, and a quarter as many batches")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for name in given.data:
        data = prepare(name, given.work, run=given.run, movielens=given.movielens)
        print(f"\n# {TITLE[name]}", flush=True)
        if given.only != "prefill":
            results: Results = {arm: [] for arm in ARMS}
            for seed in given.seeds:
                for arm in ARMS:
                    results[arm].append(result(data, arm, seed, given))
            print_figures(results)
            print_losses(results)
            print_findings(results)
        if given.only != "learn":
            print_prefill({arm: model_of(data, arm, given.seeds[0], given) for arm in (HALF, UNMERGED)}, data, given)


def model_of(data: Data, arm: str, seed: int, given: argparse.Namespace) -> Path:
    return base(data, seed, (*SIZE[data.name], *KEPT, *ARMS[arm]), threads=given.threads)


def result(data: Data, arm: str, seed: int, given: argparse.Namespace) -> Result:
    """Figures of one model; once they are written, its checkpoints go."""
    candidate = model_of(data, arm, seed, given)
    path, model = candidate.parent / "page_wise.json", candidate.parent / "model"
    if not path.exists():
        found = figures(candidate, data, "test")
        measured = {metric: found.mean(metric) for metric in METRICS} | {"invalid": found.invalid_share}
        measured |= losses(data, candidate)
        path.write_text(json.dumps(measured, indent=1))
    for step in checkpoints.steps(model):
        shutil.rmtree(model / f"step-{step:08d}")
    return dict(json.loads(path.read_text()))


def losses(data: Data, candidate: Path) -> Result:
    """The training loss, and held-out losses with the tokens read until then at every checkpoint: "item 100" …"""
    lines = [json.loads(line) for line in (candidate.parent / "model" / "log.jsonl").read_text().splitlines()]
    last = lines[-max(1, len(lines) // 10) :]
    found = {"learnt": float(np.mean([line["loss"] for line in last]))}
    tokens = {line["step"]: total for line, total in zip(lines, np.cumsum([x["tokens"] for x in lines]), strict=True)}
    layout = read_recipe(candidate / "recipe.yaml").part("layout", PagesConfig)
    histories, model = held_out_pages(data), read_decoder(candidate)
    item_tokens = tokens_of(data)
    for step in checkpoints.steps(candidate.parent / "model"):
        model.load_state_dict(weights_at(candidate.parent / "model", step))
        found[f"tokens {step}"] = float(tokens[step])
        for kind, page_wise in (("item", 0.0), ("page", 1.0)):
            asked = replace(layout, page_wise=page_wise)
            found[f"{kind} {step}"] = held_out_loss(model.bfloat16(), histories, item_tokens, asked)
    return found


def weights_at(model: Path, step: int) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint."""
    weights = load_file(model / f"step-{step:08d}" / checkpoints.STATE)
    own = "weight/model."
    return {name.removeprefix(own): weight for name, weight in weights.items() if name.startswith(own)}


def held_out_pages(data: Data) -> Sequences:
    """An even sample of the validation requests, each a history and, to be learnt, the page that followed."""
    trial, prompts = trial_of(data, "validation")
    rows = np.linspace(0, len(trial) - 1, min(len(trial), HELD_OUT)).astype(np.int64)
    truth = [trial.truth.item[trial.truth.offset[row] : trial.truth.offset[row + 1]] for row in rows]
    return with_page(prompts.take(rows).last(HELD_OUT_EVENTS), truth)


def with_page(prompts: Sequences, truth: Sequence[np.ndarray]) -> Sequences:
    """Each history with the ordered items of its next page at its end, which alone are to be learnt."""
    sizes = np.array([len(items) for items in truth])
    end = np.repeat(prompts.offset[1:], sizes)
    following = np.repeat(np.full(len(prompts), prompts.page.max() + 1), sizes)
    return replace(
        prompts,
        as_of=prompts.as_of + 1,
        target_from=prompts.as_of,
        offset=prompts.offset + np.append(0, np.cumsum(sizes)),
        item=np.insert(prompts.item, end, np.concatenate(truth)),
        behaviour=np.insert(prompts.behaviour, end, 2),
        page=np.insert(prompts.page, end, following),
        time=np.insert(prompts.time, end, np.repeat(prompts.as_of, sizes)),
    )


@torch.inference_mode()
def held_out_loss(model: CausalDecoder, histories: Sequences, item_tokens: np.ndarray, layout: PagesConfig) -> float:
    """Nats a code."""
    total = weight = 0.0
    for start in range(0, len(histories), 16):
        rows = np.arange(start, min(start + 16, len(histories)))
        packed = lay_out(histories.take(rows), item_tokens, layout, [np.random.default_rng(row) for row in rows])
        found, weights = token_losses(model, packed)
        total, weight = total + float((found * weights).sum()), weight + float(weights.sum())
    return total / weight


def tokens_of(data: Data) -> np.ndarray:
    """Of each item, int64 [I, L]."""
    table = SemanticIds.read(data.tokenizer / "semantic_ids.parquet")
    return Vocabulary(table.sizes).tokens(table.codes)


def print_figures(results: Results) -> None:
    print(f"\n| | {' | '.join(METRICS)} | invalid |\n|---{'|---' * (len(METRICS) + 1)}|")
    for arm, runs in results.items():
        cells = [spread([run[metric] for run in runs]) for metric in (*METRICS, "invalid")]
        print(f"| {arm} | {' | '.join(cells)} |")


def print_losses(results: Results) -> None:
    """The course of held-out losses, means over seeds."""
    steps = sorted(int(name.split()[1]) for name in results[HALF][0] if name.startswith("item "))
    print(f"\n| | learnt | tokens a step | {' | '.join(f'item, page at {step}' for step in steps)} |")
    print(f"|---|---|---{'|---' * len(steps)}|")
    for arm, runs in results.items():
        cells = [f"{mean(runs, f'item {step}'):.3f}, {mean(runs, f'page {step}'):.3f}" for step in steps]
        per_step = mean(runs, f"tokens {steps[-1]}") / steps[-1]
        print(f"| {arm} | {spread([run['learnt'] for run in runs], '.3f')} | {per_step:,.0f} | {' | '.join(cells)} |")


def print_findings(results: Results) -> None:
    """GenRec's orderings, by the paired differences of the seeds."""
    final = max((name for name in results[HALF][0] if name.startswith("item ")), key=lambda name: int(name.split()[1]))
    page = final.replace("item", "page")
    asked = [
        *((PAGE, POINT, metric, 1) for metric in ("HR@10", "HR@50")),
        *((PAGE, POINT, metric, -1) for metric in ("invalid", "learnt", final, page)),
        *((HALF, arm, metric, 1) for arm in (POINT, PAGE) for metric in ("HR@10", "HR@50")),
    ]
    print("\n| ordering | difference | of each seed | |\n|---|---|---|---|")
    for arm, other, metric, sign in asked:
        apart = [a[metric] - b[metric] for a, b in zip(results[arm], results[other], strict=True)]
        said = verdict([difference * sign for difference in apart])
        ordering = f"{metric}: {arm} {'>' if sign > 0 else '<'} {other}"
        print(f"| {ordering} | {spread(apart, '+.4f')} | {', '.join(f'{x:+.4f}' for x in apart)} | {said} |")
    for metric in ("HR@10", "HR@50"):
        apart = [a[metric] / b[metric] - 1 for a, b in zip(results[HALF], results[UNMERGED], strict=True)]
        said = verdict([0.01 - abs(share) for share in apart])
        each = ", ".join(f"{share:+.1%}" for share in apart)
        print(f"| {metric}: the merger changes less than 1% of it | {spread(apart, '+.1%')} | {each} | {said} |")


def verdict(shown: list[float]) -> str:
    """What seeds say that show an ordering where they are above zero."""
    return "holds" if min(shown) > 0 else "fails" if max(shown) < 0 else "open"


def print_prefill(models: dict[str, Path], data: Data, given: argparse.Namespace) -> None:
    """Prompt tokens, time to read one prompt, and what training costs, with and without the merger."""
    _, prompts = trial_of(data, "test")
    rows = np.linspace(0, len(prompts) - 1, given.repeats).astype(np.int64)
    item_tokens, read, learn, sizes = tokens_of(data), {}, {}, {}
    for arm, candidate in models.items():
        recipe = read_recipe(candidate / "recipe.yaml")
        layout, decoding = recipe.part("layout", PagesConfig), recipe.part("decoding", DecodingConfig)
        engine = EagerEngine(read_decoder(candidate), dtype=torch.bfloat16)
        asked = [
            prompts_of(prompts.take(rows[[at]]), item_tokens, layout, decoding.prompt_items) for at in range(len(rows))
        ]
        whole = prompts_of(prompts, item_tokens, layout, decoding.prompt_items)
        sizes[arm] = float(whole.lengths.float().mean())
        read[arm] = [partial(engine.prefill, one) for one in asked]
        learn[arm] = batches_of(data, candidate, layout, max(2, given.repeats // 4))
    times, steps = in_turns(read), in_turns({arm: [work for work, *_ in of_arm] for arm, of_arm in learn.items()})
    print("\n| | tokens of a prompt | prefill, ms | tokens/s in learning | items learnt a s |\n|---|---|---|---|---|")
    for arm in models:
        tokens, items = (np.array([part[at] for part in learn[arm]]) / steps[arm] for at in (1, 2))
        prefill = quartiles(times[arm] * 1e3, ".1f")
        print(f"| {arm} | {sizes[arm]:.0f} | {prefill} | {quartiles(tokens, ',.0f')} | {quartiles(items, ',.0f')} |")
    print("medians (quartiles); one request at a time in bf16; learning is forward and backward in bf16")
    shorter, faster = sizes[UNMERGED] / sizes[HALF], float(np.median(times[UNMERGED] / times[HALF]))
    print(f"the merger divides the prompt by {shorter:.2f} and its prefill by {faster:.2f}")


def batches_of(
    data: Data, candidate: Path, layout: PagesConfig, count: int
) -> list[tuple[Callable[[], object], int, int]]:
    """For each of the first batches of training: learning from it, its tokens, and the items learnt."""
    recipe, model = read_recipe(candidate / "recipe.yaml"), read_decoder(candidate).bfloat16()
    config, item_tokens = recipe.part("training", TrainingConfig), tokens_of(data)
    sequences = sequences_from_table(pq.read_table(data.features / "training.parquet"), data.item_ids)
    batches = Batches(
        sequences=sequences, item_tokens=item_tokens, layout=layout, batch_tokens=config.batch_tokens, seed=0
    )

    def learn(packed: Packed) -> None:
        next_token_loss(model, packed).backward()
        model.zero_grad()

    walk = islice(batches.walk(start=0, rank=0, processes=1), count)
    return [
        (lambda packed=packed: learn(packed), len(packed), packed.learnt // item_tokens.shape[1]) for packed in walk
    ]


def in_turns(work: dict[str, list[Callable[[], object]]]) -> dict[str, np.ndarray]:
    """Seconds of each piece of work, by arm; the arms take turns, every second time in the other order. A first round
    is not counted."""
    seconds = {arm: np.zeros(len(pieces)) for arm, pieces in work.items()}
    for counted in (False, True):
        for at in range(min(map(len, work.values()))):
            for arm in list(work)[:: 1 if at % 2 else -1]:
                start = time.perf_counter()
                work[arm][at]()
                seconds[arm][at] = time.perf_counter() - start if counted else 0
    return seconds


def mean(runs: list[Result], name: str) -> float:
    return float(np.mean([run[name] for run in runs]))


def spread(values: list[float], form: str = ".4f") -> str:
    """Mean ± standard deviation; the sign only before the mean."""
    deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{np.mean(values):{form}} ± {deviation:{form.removeprefix('+')}}"


def quartiles(values: np.ndarray, form: str) -> str:
    """Median (quartiles)."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


if __name__ == "__main__":
    main()
