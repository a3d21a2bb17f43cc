"""Print rollouts a second of our sampling beside Hugging Face's `generate`, on a CPU; and that both draw alike.

    python benchmarks/rollouts.py [--layers 2] [--prompt 256] [--prompts 16] [--group 16] [--threads 2] [--repeats 5]

All run the same fp32 weights over the same prompts of one length: random weights (seed 0, embeddings scaled up so that
codes differ in probability), random histories, a random catalogue of 27,000 items at 3 × 256 codes. A batch is
everything from histories to codes. Ours are `Generation.draw` and, as beams and not draws, `Generation.likeliest`:
a prompt is read once, and its rollouts share what was read. `generate` samples plainly (no top-k, no top-p), its scores
normalised over the codes of the level, and gets its prompts as embedded by our decoder (it has no token merger): a call
a rollout is the naive loop, which reads a prompt anew for each; `num_return_sequences` is kinder, for a prompt or for
the batch, and copies the prompts before it reads. Free: over all codes; along the trie: only codes that lead to an
item, for `generate` by its `PrefixConstrainedLogitsProcessor`.

The ways take turns, and every second repeat goes the other way round. Figures are medians (slowest to fastest) of the
repeats, after one that is not counted; × naive is of two ways in the same repeat. CPU time, summed over threads, tells
less of what else the machine does. The mean log-probability of all rollouts of a way, under the model and by the packed
pass that alignment learns from, is set against that of the naive loop; ± is its standard error, prompts held fixed.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from hugging_face import LevelLogSoftmax, embedded, held_to_catalogue, qwen2
from transformers import LogitsProcessorList
from trie import random_catalogue

from nextpage.alignment.generation import Generation
from nextpage.alignment.log_probs import answer_log_probs
from nextpage.decoding.prompts import prompts_of
from nextpage.decoding.trie import Trie
from nextpage.interactions.sequences import Sequences
from nextpage.layouts.answers import lay_out_answers
from nextpage.layouts.pages import PagesConfig
from nextpage.models.decoder import CausalDecoder, DecoderConfig
from nextpage.tokenizers.semantic_ids import SemanticIds
from nextpage.tokenizers.vocabulary import PAD, Vocabulary

ITEMS, SIZES = 27_000, (256, 256, 256)
VOCABULARY = Vocabulary(SIZES)
BAR = 10.0
ERRORS = 4.0
"""Standard errors that mean log-probabilities may lie apart."""
NAIVE, OURS = "generate, a call a rollout", "ours, drawn"

Draw = Callable[[Sequences, int, int], np.ndarray]
"""(prompts of B histories, rollouts of each G, seed) → tokens int64 [B, G, L]"""


@dataclass(kw_only=True)
class Measured:
    """One way, repeat by repeat."""

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    log_prob: list[np.ndarray] = field(default_factory=list)  # [B, G] each

    @property
    def mean_log_prob(self) -> tuple[float, float]:
        """And its standard error."""
        values = np.concatenate(self.log_prob, axis=1)
        prompts, draws = values.shape
        return float(values.mean()), float(np.sqrt(values.var(axis=1, ddof=1).sum() / draws) / prompts)


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    generation, table = make_generation(given.layers, given.prompt)
    prompts = histories(given.prompts, given.prompt, len(table.item_ids))
    print(
        f"{given.layers} layers × {generation.model.config.width}, {given.prompts} prompts of {given.prompt} items, "
        f"{given.group} rollouts each, threads: {given.threads}"
    )
    for title, constrained in (("free", False), ("along the trie", True)):
        ways = hugging_face(generation, table, constrained=constrained) | ours(generation, constrained=constrained)
        measured = measure(ways, generation, prompts, given.group, given.repeats)
        print_table(title, measured, given.prompts * given.group)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


def make_generation(layers: int, prompt: int) -> tuple[Generation, SemanticIds]:
    torch.manual_seed(0)
    ranges = tuple(VOCABULARY.level_range(level) for level in range(len(SIZES)))
    config = DecoderConfig(vocabulary_size=VOCABULARY.size, level_ranges=ranges, layers=layers)
    decoder = CausalDecoder(config).eval().requires_grad_(False)
    decoder.embed_tokens.weight *= 5
    table = random_catalogue(ITEMS, SIZES)
    tokens = VOCABULARY.tokens(table.codes)
    generation = Generation(
        model=decoder, trie=Trie.build(table), item_tokens=tokens, layout=PagesConfig(), prompt_items=prompt
    )
    return generation, table


def histories(users: int, events: int, items: int) -> Sequences:
    """Random orders, an hour apart."""
    as_of = np.full(users, 1_700_000_000)
    number = np.tile(np.arange(events), users)
    return Sequences(
        user_id=np.array([f"u{user}" for user in range(users)], dtype=object),
        as_of=as_of,
        target_from=as_of,
        offset=np.arange(users + 1) * events,
        item=np.random.default_rng(1).integers(0, items, users * events).astype(np.int32),
        behaviour=np.full(users * events, 2, dtype=np.int8),
        page=number,
        time=as_of[0] - 3600 * (events - number),
    )


def ours(by: Generation, *, constrained: bool) -> dict[str, Draw]:
    def draw(prompts: Sequences, group: int, seed: int) -> np.ndarray:
        return VOCABULARY.tokens(by.draw(prompts, group, (seed,), constrained=constrained).codes.numpy())

    def likeliest(prompts: Sequences, group: int, seed: int) -> np.ndarray:
        return VOCABULARY.tokens(by.likeliest(prompts, group, constrained=constrained).codes.numpy())

    return {OURS: draw, "ours, the likeliest": likeliest}


def hugging_face(generation: Generation, table: SemanticIds, *, constrained: bool) -> dict[str, Draw]:
    """`generate` called for each rollout, for each prompt, or once."""
    model, by = qwen2(generation.model), generation
    processors = LogitsProcessorList([LevelLogSoftmax(SIZES), *([held_to_catalogue(table, 1)] if constrained else [])])

    def generate(read: torch.Tensor, number: int) -> torch.Tensor:
        return model.generate(
            inputs_embeds=read,
            attention_mask=torch.ones(read.shape[:2], dtype=torch.int64),
            max_new_tokens=len(SIZES),
            num_return_sequences=number,
            do_sample=True,
            top_k=0,
            top_p=1.0,
            eos_token_id=None,
            pad_token_id=PAD,
            logits_processor=processors,
        )

    def way(prompts_a_call: int | None, rollouts_a_call: int | None) -> Draw:
        @torch.inference_mode()
        def draw(prompts: Sequences, group: int, seed: int) -> np.ndarray:
            torch.manual_seed(seed)
            read = embedded(by.model, prompts_of(prompts, by.item_tokens, by.layout, by.prompt_items))
            number = rollouts_a_call or group
            drawn = [
                generate(part, number).view(len(part), number, len(SIZES))
                for part in read.split(prompts_a_call or len(read))
                for _ in range(group // number)
            ]
            return torch.cat(drawn).view(len(read), group, len(SIZES)).numpy()

        return draw

    return {
        NAIVE: way(1, 1),
        "generate, a call a prompt": way(1, None),
        "generate, a call a batch": way(None, None),
    }


def measure(
    ways: dict[str, Draw], generation: Generation, prompts: Sequences, group: int, repeats: int
) -> dict[str, Measured]:
    measured = {name: Measured() for name in ways}
    for repeat in range(repeats + 1):
        for name in list(ways)[:: -1 if repeat % 2 else 1]:
            start, cpu_start = time.perf_counter(), time.process_time()
            tokens = ways[name](prompts, group, repeat)
            seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
            if repeat:
                measured[name].seconds.append(seconds)
                measured[name].cpu_seconds.append(cpu_seconds)
                measured[name].log_prob.append(log_probs(generation, prompts, tokens))
    return measured


@torch.inference_mode()
def log_probs(by: Generation, prompts: Sequences, tokens: np.ndarray) -> np.ndarray:
    """Of answers int [B, G, L] under the model, over all codes: float [B, G]"""
    packed = lay_out_answers(prompts, list(tokens), by.item_tokens, by.layout, by.prompt_items)
    found: np.ndarray = answer_log_probs(by.model, packed).sum(dim=1).view(tokens.shape[:2]).numpy()
    return found


def print_table(title: str, measured: dict[str, Measured], rollouts: int) -> None:
    naive = measured[NAIVE]
    print(f"\n| {title} | rollouts a second | CPU ms a rollout | × naive | × naive, CPU | mean log-probability |")
    print("|---|---|---|---|---|---|")
    for name, own in measured.items():
        mean, error = own.mean_log_prob
        print(
            f"| {name} | {spread(rollouts / np.array(own.seconds), 0)} "
            f"| {np.median(own.cpu_seconds) / rollouts * 1e3:.2f} "
            f"| {spread(np.array(naive.seconds) / own.seconds, 1)} "
            f"| {np.median(np.array(naive.cpu_seconds) / own.cpu_seconds):.1f} | {mean:.3f} ± {error:.3f} |",
            flush=True,
        )
    times = float(np.median(np.array(naive.seconds) / measured[OURS].seconds))
    print(f"\n{title}: {times:.1f} × the naive loop, at least {BAR:.0f}: {'held' if times >= BAR else 'MISSED'}")
    (mean, error), (other, other_error) = measured[OURS].mean_log_prob, naive.mean_log_prob
    apart = abs(mean - other) / float(np.hypot(error, other_error))
    print(
        f"{title}: mean log-probabilities {apart:.1f} standard errors apart, at most {ERRORS:.0f}: "
        f"{'held' if apart <= ERRORS else 'MISSED'}"
    )


def spread(values: np.ndarray, digits: int) -> str:
    return f"{np.median(values):,.{digits}f} ({values.min():,.{digits}f} to {values.max():,.{digits}f})"


if __name__ == "__main__":
    main()
