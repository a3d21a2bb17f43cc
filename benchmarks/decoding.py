"""Print requests a second of our search beside Hugging Face's constrained beam search, on a CPU; and the trie's size.

    python benchmarks/decoding.py [--layers 2] [--prompt 256] [--beams 50] [--batch 1 4 32] [--threads 2] [--repeats 5]

Both run the same weights, prompts and beams: random weights (seed 0), random prompts of one length, a random catalogue
of 27,000 items at 3 × 256 codes. A request is everything from the prompt's tokens to its items. Hugging Face's
`generate` gets the prompts as embedded by our decoder (it has no token merger) and its own
`PrefixConstrainedLogitsProcessor` over a dict of prefixes; before that, scores are normalised over the codes of the
level, as ours are. `same items`: the share of its items that ours holds too. Times are the median (fastest to slowest)
of the repeats, after one that is not counted; CPU time, summed over threads, tells less of what else the machine does.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, Qwen2Config, Qwen2ForCausalLM
from transformers.generation.logits_process import PrefixConstrainedLogitsProcessor

from nextpage.decoding.beam_search import search
from nextpage.decoding.eager import EagerEngine
from nextpage.decoding.engine import Prompts
from nextpage.decoding.trie import Trie
from nextpage.models.decoder import CausalDecoder, DecoderConfig
from nextpage.tokenizers.semantic_ids import SemanticIds
from nextpage.tokenizers.vocabulary import PAD, SEP, Vocabulary

ITEMS, SIZES = 27_000, (256, 256, 256)
VOCABULARY = Vocabulary(SIZES)
RANGES = tuple(VOCABULARY.level_range(level) for level in range(len(SIZES)))


class LevelLogSoftmax(LogitsProcessor):
    """Scores [rows, V] normalised over the codes of the level that comes next; no other token is left."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        start, stop = RANGES[input_ids.shape[1]]
        level = torch.full_like(scores, -torch.inf)
        level[:, start:stop] = scores[:, start:stop].log_softmax(-1)
        return level


def qwen2(decoder: CausalDecoder) -> Qwen2ForCausalLM:
    """The decoder's weights in Hugging Face's model, but for the token merger, which it does not have."""
    config = decoder.config
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=config.vocabulary_size,
            hidden_size=config.width,
            intermediate_size=config.mlp_width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            head_dim=config.head_width,
            rms_norm_eps=config.norm_epsilon,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=True,
        )
    ).eval()
    weights = {name: weight for name, weight in decoder.state_dict().items() if "merger" not in name}
    model.model.load_state_dict(weights)
    return model


def held_to_catalogue(table: SemanticIds, beams: int) -> LogitsProcessor:
    """Leaves the tokens that lead to an item, by a dict of prefixes."""
    children: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
    for path in VOCABULARY.tokens(table.codes).tolist():
        for level, token in enumerate(path):
            children[tuple(path[:level])].add(token)
    allowed = {prefix: sorted(following) for prefix, following in children.items()}
    return PrefixConstrainedLogitsProcessor(lambda _, prefix: allowed.get(tuple(prefix.tolist()), [PAD]), beams)


def embedded(decoder: CausalDecoder, prompts: Prompts) -> Tensor:
    """Prompts of one length and the SEP that ends each, as our decoder embeds them: [B, T + 1, D]"""
    sep = decoder.embed(torch.full_like(prompts.lengths, SEP))[:, None]
    return torch.cat([decoder.embed_merged(prompts.tokens), sep], dim=1)


def hugging_face(decoder: CausalDecoder, table: SemanticIds, beams: int) -> Callable[[Prompts], Tensor]:
    """Their search, as prompts → rows [B, beams]."""
    model = qwen2(decoder)
    rows = {tuple(path): row for row, path in reversed(list(enumerate(VOCABULARY.tokens(table.codes).tolist())))}
    processors = LogitsProcessorList([LevelLogSoftmax(), held_to_catalogue(table, beams)])

    @torch.inference_mode()
    def run(prompts: Prompts) -> Tensor:
        read = embedded(decoder, prompts)
        generated = model.generate(
            inputs_embeds=read,
            attention_mask=torch.ones(read.shape[:2], dtype=torch.int64),
            max_new_tokens=len(SIZES),
            num_beams=beams,
            num_return_sequences=beams,
            do_sample=False,
            length_penalty=0.0,
            eos_token_id=None,
            pad_token_id=PAD,
            logits_processor=processors,
        )
        found = [rows.get(tuple(path), -1) for path in generated.tolist()]
        return torch.tensor(found).view(len(read), beams)

    return run


def ours(decoder: CausalDecoder, table: SemanticIds, beams: int, dtype: torch.dtype) -> Callable[[Prompts], Tensor]:
    """Our search, as prompts → rows [B, beams]."""
    engine, trie = EagerEngine(decoder, dtype=dtype), Trie.build(table)
    return lambda prompts: search(engine, prompts, trie, beam_width=beams, k=beams).rows


def random_catalogue(generator: np.random.Generator) -> SemanticIds:
    """Distinct semantic IDs: Hugging Face's search cannot tell items apart that share one."""
    numbers = generator.choice(np.prod(SIZES), size=ITEMS, replace=False)
    codes = np.stack(np.unravel_index(numbers, SIZES), axis=1)
    return SemanticIds.sorted(np.arange(ITEMS).astype(str).astype(object), codes, SIZES)


def milliseconds(run: Callable[[Prompts], Tensor], prompts: Prompts, repeats: int) -> tuple[list[float], float]:
    """Wall time of each repeat, sorted, and the median of the CPU time."""
    wall, cpu = [], []
    for _ in range(repeats + 1):
        start, cpu_start = time.perf_counter(), time.process_time()
        run(prompts)
        wall.append((time.perf_counter() - start) * 1e3)
        cpu.append((time.process_time() - cpu_start) * 1e3)
    return sorted(wall[1:]), float(np.median(cpu[1:]))


def print_trie(items: int, sizes: tuple[int, ...]) -> None:
    """Size and build time of a large trie, over a random table that is in order already."""
    codes = np.random.default_rng(0).integers(0, sizes, size=(items, len(sizes)), dtype=np.int32)
    codes = codes[np.lexsort(codes.T[::-1])]
    table = SemanticIds(item_ids=np.arange(items).astype(object), codes=codes, sizes=sizes)
    start = time.process_time()
    trie = Trie.build(table)
    seconds = time.process_time() - start
    print(f"\ntrie of {items:,} items at {sizes}: {trie.nbytes / items:.2f} bytes an item, {seconds:.2f} s of CPU time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--beams", type=int, default=50)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 32])
    parser.add_argument(
        "--reference-batch", type=int, default=4, help="largest batch for Hugging Face: it copies prompts"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    table = random_catalogue(generator)
    decoder = CausalDecoder(
        DecoderConfig(vocabulary_size=VOCABULARY.size, level_ranges=RANGES, layers=arguments.layers)
    ).eval()

    print(
        f"{arguments.layers} layers × {decoder.config.width}, prompt {arguments.prompt}, beam {arguments.beams}, ",
        end="",
    )
    print(f"{arguments.threads} threads\n")
    header = f"{'search':20} {'batch':>5} {'ms a batch':>28} {'requests/s':>10} "
    print(header + f"{'CPU ms/request':>14} {'times':>6} {'same items':>10}")
    reference = hugging_face(decoder, table, arguments.beams)
    searches = {
        "Hugging Face, fp32": reference,
        "ours, fp32": ours(decoder, table, arguments.beams, torch.float32),
        "ours, bf16": ours(decoder, table, arguments.beams, torch.bfloat16),
    }
    for batch in arguments.batch:
        history = generator.integers(0, SIZES, size=(batch, arguments.prompt, len(SIZES)))
        prompts = Prompts(
            tokens=torch.from_numpy(VOCABULARY.tokens(history)), lengths=torch.full((batch,), arguments.prompt)
        )
        with_reference = batch <= arguments.reference_batch
        expected, base = reference(prompts) if with_reference else None, 0.0
        for name, run in searches.items():
            if run is reference and not with_reference:
                continue
            times, cpu = milliseconds(run, prompts, arguments.repeats)
            median = float(np.median(times))
            line = f"{name:20} {batch:5d} {f'{median:.1f} ({times[0]:.1f} to {times[-1]:.1f})':>28} "
            line += f"{batch / median * 1e3:10.1f} {cpu / batch:14.1f}"
            if expected is not None:
                base = base or median
                same = np.mean([np.isin(*pair).mean() for pair in zip(expected, run(prompts), strict=True)])
                line += f" {base / median:6.1f} {same:10.3f}"
            print(line, flush=True)
    print_trie(1_000_000, (8192, 8192, 8192))


if __name__ == "__main__":
    main()
