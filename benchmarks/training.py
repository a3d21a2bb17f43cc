"""Print what training costs on a CPU: DeepSpeed beside a plain loop, precisions, packing, attention, MFU.

    python benchmarks/training.py [--histories training.parquet --semantic-ids semantic_ids.parquet]
                                  [--batches 6] [--repeats 4] [--threads 1] [--set training.batch_tokens=8000 …]

Model, layout and training as the recipe `genrec` says. Without files: random histories (seed 0) of 512 events in pages
of 9.4 items on average (as The Complete Journey has them), of which the last 192 are learnt, over 27,000 items at
3 × 256 codes; their order teaches nothing, but time and tokens are those of real ones. Every loop learns from the same
packed batches. The loops take turns batch by batch and every second repeat goes the other way round, so that what else
the machine does meets all alike. Figures are medians (quartiles) over batches and repeats, after a repeat that is not
counted; a ratio is of two loops on the same batch in the same repeat. CPU time, summed over threads, tells less of what
else the machine does, so bars are held against it. MFU: floating-point operations as a share of what a large matrix
product of that precision reached here.
"""

import argparse
import copy
import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from nextpage.interactions.sequences import Sequences, sequences_from_table
from nextpage.layouts.packed import IGNORED, Packed
from nextpage.layouts.pages import PagesConfig
from nextpage.models.attention import branch_attention, dense_attention
from nextpage.models.decoder import CausalDecoder, DecoderConfig
from nextpage.objectives.next_token import NextToken, next_token_loss
from nextpage.recipes import read_recipe
from nextpage.tokenizers.semantic_ids import SemanticIds
from nextpage.tokenizers.vocabulary import Vocabulary
from nextpage.training.__main__ import make_decoder
from nextpage.training.batches import Batches
from nextpage.training.config import TrainingConfig
from nextpage.training.deepspeed_engine import BETAS, join, leave, make_engine
from nextpage.training.loop import _step
from nextpage.training.meter import BACKWARD_AND_FORWARD

DAY = 86_400
ITEMS, SIZES = 27_000, (256, 256, 256)
EVENTS, LEARNT, PAGE_ITEMS = 512, 192, 9.4
BAR, MOST_PADDING = 0.9, 0.05

Work = Callable[[Packed], float]
"""Learns from a batch, or only runs it; returns the loss."""


def main() -> None:
    given = arguments()
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed asks for a compiler to find out by itself
    torch.set_num_threads(given.threads)
    recipe = read_recipe("genrec").with_settings(given.set)
    config = recipe.part("training", TrainingConfig)
    sequences, vocabulary, item_tokens = data(given.histories, given.semantic_ids)
    layout = recipe.part("layout", PagesConfig)
    walk = Batches(
        sequences=sequences, item_tokens=item_tokens, layout=layout, batch_tokens=config.batch_tokens, seed=config.seed
    ).walk(start=0, rank=0, processes=1)
    batches = list(islice(walk, given.batches))
    torch.manual_seed(config.seed)
    model = make_decoder(recipe.part("model", DecoderConfig), vocabulary, config)
    weights = sum(weight.numel() for weight in model.parameters())
    print(f"{weights:,} weights, {len(batches)} batches of {sum(map(len, batches)) / len(batches):,.0f} tokens")
    print_packing(batches)
    join()
    print_loops(model, config, batches, given.repeats)
    leave()
    print_attention(model, batches, given.repeats)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=Path, help="training.parquet of the features step")
    parser.add_argument("--semantic-ids", type=Path, help="semantic_ids.parquet of the tokenizer")
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], help="section.key=value of the recipe")
    given = parser.parse_args()
    if (given.histories is None) != (given.semantic_ids is None):
        parser.error("--histories and --semantic-ids go together")
    return given


def data(histories: Path | None, semantic_ids: Path | None) -> tuple[Sequences, Vocabulary, np.ndarray]:
    """Histories, the vocabulary, and the tokens of each item int64 [I, L]."""
    if histories is None or semantic_ids is None:
        vocabulary, draw = Vocabulary(SIZES), np.random.default_rng(0)
        return random_histories(256), vocabulary, vocabulary.tokens(draw.integers(0, SIZES, (ITEMS, len(SIZES))))
    table = SemanticIds.read(semantic_ids)
    vocabulary = Vocabulary(table.sizes)
    sequences = sequences_from_table(pq.read_table(histories), list(table.item_ids))
    return sequences, vocabulary, vocabulary.tokens(table.codes)


def random_histories(users: int) -> Sequences:
    """Ordered items in pages three days apart; popular items often."""
    draw = np.random.default_rng(0)
    page = np.concatenate([np.cumsum(draw.random(EVENTS) < 1 / PAGE_ITEMS) for _ in range(users)])
    time_of = 1_700_000_000 + page * 3 * DAY
    target_from = time_of.reshape(users, EVENTS)[:, -LEARNT]
    return Sequences(
        user_id=np.array([f"u{user}" for user in range(users)], dtype=object),
        as_of=time_of.reshape(users, EVENTS)[:, -1] + 1,
        target_from=target_from,
        offset=np.arange(users + 1) * EVENTS,
        item=(ITEMS * draw.random(users * EVENTS) ** 3).astype(np.int32),
        behaviour=np.full(users * EVENTS, 2, dtype=np.int8),
        page=page,
        time=time_of,
    )


def print_packing(batches: Sequence[Packed]) -> None:
    """Positions a target item, as packed and with a prompt of its own for each page or item, same context."""
    levels = batches[0].tokens.shape[1]
    items = sum(packed.learnt for packed in batches) / levels
    a_page, an_item = map(sum, zip(*(separate(packed) for packed in batches), strict=True))
    packed = sum(map(len, batches))
    padding = sum(batch.padding * len(batch) for batch in batches) / packed
    print("\npositions a target item")
    print(f"  a history packed once      {packed / items:8.1f}")
    print(f"  one prompt a page          {a_page / items:8.1f}   {1 - packed / a_page:.0%} of its tokens saved")
    print(f"  one prompt an item         {an_item / items:8.1f}   {1 - packed / an_item:.0%} of its tokens saved")
    print(f"  padding                    {padding:8.2%}   (bar ≤ {MOST_PADDING:.0%}: {said(padding <= MOST_PADDING)})")


def separate(packed: Packed) -> tuple[int, int]:
    """Tokens of the same targets as one prompt a page, and as one prompt an item: merged context, then codes."""
    a_page = an_item = 0
    levels = packed.tokens.shape[1]
    for start, middle, stop in packed.spans:
        learnt = packed.target[middle:stop] != IGNORED
        times = packed.time[middle:stop][learnt]
        seen = torch.searchsorted(packed.time[start:middle].contiguous(), times)
        _, first = np.unique(times.numpy(), return_index=True)
        a_page += int(seen[first].sum()) + len(times)
        an_item += int(seen.sum()) // levels + len(times)
    return a_page, an_item


def print_loops(model: CausalDecoder, config: TrainingConfig, batches: Sequence[Packed], repeats: int) -> None:
    """Tokens/s of every loop, ratios, and whether the loops learn the same."""
    work = {
        "DeepSpeed, bf16": deepspeed_loop(model, replace(config, bf16=True)),
        "plain, bf16 and fp32 master": plain_loop(model, config, bf16=True),
        "plain, bf16 by autocast": plain_loop(model, config, autocast=True),
        "DeepSpeed, fp32": deepspeed_loop(model, replace(config, bf16=False)),
        "plain, fp32": plain_loop(model, config),
    }
    losses, wall, cpu = in_turns(work, batches, repeats)
    peak = {dtype: peak_flops_a_cpu_second(dtype) for dtype in (torch.bfloat16, torch.float32)}
    tokens = np.tile([len(packed) for packed in batches], repeats)
    flops = np.tile([step_flops(model, packed) for packed in batches], repeats)
    print(f"\n{'loop':30}{'tokens/s':>26}{'tokens a CPU second':>26}{'MFU':>6}")
    for name in work:
        mfu = np.median(flops / cpu[name]) / peak[torch.float32 if name.endswith(", fp32") else torch.bfloat16]
        print(f"{name:30}{spread(tokens / wall[name], ',.0f'):>26}{spread(tokens / cpu[name], ',.0f'):>26}{mfu:6.0%}")
    print(f"\n{'throughput':58}{'by the clock':>20}{'by CPU time':>20}")
    for own, other in (
        ("DeepSpeed, bf16", "plain, bf16 and fp32 master"),
        ("DeepSpeed, bf16", "plain, bf16 by autocast"),
        ("DeepSpeed, fp32", "plain, fp32"),
        ("DeepSpeed, bf16", "DeepSpeed, fp32"),
    ):
        ratios = [times[other] / times[own] for times in (wall, cpu)]
        bar = f"  bar ≥ {BAR}: {said(np.median(ratios[1]) >= BAR)}" if "plain" in other else ""
        print(f"{own + ' / ' + other:58}{spread(ratios[0]):>20}{spread(ratios[1]):>20}{bar}")
    apart = max(abs(a - b) for a, b in zip(losses["DeepSpeed, fp32"], losses["plain, fp32"], strict=True))
    print(
        f"losses in fp32, DeepSpeed and plain: at most {apart:.1e} nats apart over {len(losses['plain, fp32'])} steps"
    )


def step_flops(model: CausalDecoder, packed: Packed) -> float:
    """As the training log counts them."""
    keys = packed.position.float().mean().item() + 1
    return BACKWARD_AND_FORWARD * model.flops_per_token(keys) * len(packed)


def peak_flops_a_cpu_second(dtype: torch.dtype, size: int = 1536, repeats: int = 8) -> float:
    """What a large matrix product reaches: the best of some."""
    a, b = torch.randn(2, size, size).to(dtype)
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        _ = a @ b
        seconds.append(time.process_time() - start)
    return 2 * size**3 / min(seconds)


def deepspeed_loop(model: CausalDecoder, config: TrainingConfig) -> Work:
    """What `nextpage.training` runs."""
    engine = make_engine(NextToken(copy.deepcopy(model)), config)
    return lambda packed: _step(engine, packed, config.learning_rate)


def plain_loop(model: CausalDecoder, config: TrainingConfig, *, bf16: bool = False, autocast: bool = False) -> Work:
    """The same step written by hand. bf16: the model in bf16, AdamW on an fp32 copy of its weights."""
    objective = NextToken(copy.deepcopy(model))
    if bf16:
        objective = objective.bfloat16()
    used = list(objective.parameters())
    masters = [weight.detach().float().clone().requires_grad_() for weight in used] if bf16 else used
    groups = [
        {"params": [weight for weight in masters if weight.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [weight for weight in masters if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=BETAS, fused=True)

    def step(packed: Packed) -> float:
        with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            losses, weights = objective(packed)
            loss = (losses * weights).sum() / weights.sum()
        loss.backward()
        if bf16:
            for master, weight in zip(masters, used, strict=True):
                master.grad = weight.grad.float()
        torch.nn.utils.clip_grad_norm_(masters, config.clip)
        optimizer.step()
        if bf16:
            with torch.no_grad():
                for master, weight in zip(masters, used, strict=True):
                    weight.copy_(master)
        objective.zero_grad()
        return loss.item()

    return step


def print_attention(model: CausalDecoder, batches: Sequence[Packed], repeats: int) -> None:
    """Forward and backward of the whole model under either attention."""
    model = copy.deepcopy(model).bfloat16()

    def run(attention: Callable[[Packed], Callable[[Tensor, Tensor, Tensor], Tensor]]) -> Work:
        def forward_and_backward(packed: Packed) -> float:
            loss = next_token_loss(model, packed, attention(packed))
            loss.backward()
            model.zero_grad()
            return loss.item()

        return forward_and_backward

    work = {"branch_attention": run(branch_attention), "dense_attention": run(dense_attention)}
    losses, _, cpu = in_turns(work, batches, repeats)
    apart = max(abs(a - b) for a, b in zip(*losses.values(), strict=True))
    print("\nforward and backward in bf16, CPU ms a batch")
    for name, spent in cpu.items():
        print(f"{name:30}{spread(1000 * spent, '.0f'):>26}")
    print(f"{'dense / branch':30}{spread(cpu['dense_attention'] / cpu['branch_attention']):>26}")
    print(f"losses at most {apart:.1e} nats apart")


Times = dict[str, np.ndarray]
"""Of each name, seconds float [repeats · batches]."""


def in_turns(
    work: dict[str, Work], batches: Sequence[Packed], repeats: int
) -> tuple[dict[str, list[float]], Times, Times]:
    """Losses of all steps; wall seconds and CPU seconds of all but the first repeat, by name."""
    losses, wall, cpu = ({name: [] for name in work} for _ in range(3))
    for repeat in range(repeats + 1):
        for packed in batches:
            for name in list(work)[:: 1 if repeat % 2 else -1]:
                start = time.perf_counter(), time.process_time()
                losses[name].append(work[name](packed))
                wall[name].append(time.perf_counter() - start[0])
                cpu[name].append(time.process_time() - start[1])
    timed = slice(len(batches), None)
    return losses, *({name: np.array(spent[timed]) for name, spent in kind.items()} for kind in (wall, cpu))


def spread(values: np.ndarray, form: str = ".2f") -> str:
    """Median and quartiles."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def said(held: bool) -> str:
    return "held" if held else "MISSED"


if __name__ == "__main__":
    main()
