"""Engines for a release: built on this machine, held against torch, and kept where they are right."""

import shutil
from dataclasses import replace
from pathlib import Path

import torch

from components.optimise.build import built, by_torch_here, deviation_of, key_of
from components.optimise.card import engine_card
from components.optimise.config import PRECISION, OptimiseConfig
from components.optimise.outcome import Outcome, Tried
from components.optimise.trial import Asked, answers, latencies, read_asked
from nextpage.decoding.beam_search import Found
from nextpage.decoding.engines.choice import TORCH, Chosen, by_torch
from nextpage.decoding.engines.engine_folder import seal_engine
from nextpage.decoding.engines.parity import agreement
from nextpage.evaluation.bootstrap import paired_intervals
from nextpage.evaluation.metrics import ranking_metrics
from nextpage.models.decoder import CausalDecoder
from nextpage.recommender import read_decoder
from nextpage.release import ENGINES, verify


def optimise(*, release: Path, features: Path, clean: Path, optimised: Path, config: OptimiseConfig) -> Outcome:
    """Fill the folder `optimised` with the sealed release and, beside its files, the engines that are right.

    Whatever keeps one from being built and run leaves it out. Raises ReleaseRefused where the release is not as it was
    sealed, and ValueError where `features` do not hold what it is to be asked.
    """
    sealed = verify(release)
    shutil.copytree(release, optimised, dirs_exist_ok=True, ignore=shutil.ignore_patterns(ENGINES))
    decoder = read_decoder(release).eval()
    asked = read_asked(release, features, clean, split=config.split, requests=config.requests)
    expected = answers(by_torch(decoder, torch.float32), asked, "reference")
    running = {TORCH: by_torch_here(decoder, asked.decoding.dtype)}
    tried = [_try(name, decoder, sealed.hash, optimised / ENGINES, expected, asked, config) for name in config.engines]
    running |= {one.name: chosen for one, chosen in tried if chosen}
    took = latencies(running, asked, config.batches, config.repeats)
    kept = [_sealed(one, optimised / ENGINES, took, len(asked.trial)) for one, _ in tried]
    return Outcome(tried=tuple(kept), requests=len(asked.trial), torch_latency_ms=took[TORCH])


def judged(name: str, found: Found, expected: Found, asked: Asked, config: OptimiseConfig) -> Tried:
    """An engine by its answers: in fp32 by the reference's, rounded by what was really chosen."""
    agreed, truth = agreement(expected, found), asked.trial.truth
    metrics = [ranking_metrics(one.rows.numpy(), truth, cutoffs=config.cutoffs) for one in (found, expected)]
    recall = {name: values for name, values in metrics[0].items() if name.startswith("Recall")}
    differences = paired_intervals(recall, metrics[1], asked.trial.user_id, config.bootstrap)
    broken = []
    if PRECISION[name] == "fp32":
        if not agreed.scores <= config.score_bound:
            bound = f"at most {config.score_bound:.2g} is rounding"
            broken.append(f"log-probabilities differ by {agreed.scores:.2g}, {bound}")
        if not agreed.items >= 1 - config.changed_items:
            bound = f"at most {config.changed_items:.2%} is rounding"
            broken.append(f"{1 - agreed.items:.2%} of the items are others, {bound}")
    else:
        broken += [
            f"{metric} may be inferior: {difference.mean:+.4f} ({difference.low:+.4f} to {difference.high:+.4f}), must "
            f"lie above {-config.recall_margin:+.4f}"
            for metric, difference in differences.items()
            if not difference.low > -config.recall_margin
        ]
    return Tried(name=name, refused="; ".join(broken), agreement=agreed, differences=differences)


def _try(
    name: str,
    decoder: CausalDecoder,
    release_hash: str,
    engines: Path,
    expected: Found,
    asked: Asked,
    config: OptimiseConfig,
) -> tuple[Tried, Chosen | None]:
    """Build an engine into its folder and ask it; the folder stays where it is right."""
    folder = None
    try:
        key = key_of(name, release_hash)
        folder = engines / key.name
        chosen = built(name, decoder, folder)
        one = judged(name, answers(chosen, asked, name), expected, asked, config)
        one = replace(one, key=replace(key, deviation=deviation_of(chosen, key, decoder)))
    except Exception as error:  # of a library that may be another or absent: the release serves without it
        one = Tried(name=name, refused=f"it cannot be built and run here ({error})")
    if not one.refused:
        return one, chosen
    print(f"{name} is left out: {one.refused}")
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    return replace(one, key=None), None


def _sealed(one: Tried, engines: Path, took: dict[str, dict[str, float]], requests: int) -> Tried:
    """What is kept, with its card and its key."""
    if one.key is None:
        return one
    one = replace(one, key=replace(one.key, latency_ms=took[one.name], torch_latency_ms=took[TORCH]))
    folder = engines / one.key.name
    (folder / "card.md").write_text(engine_card(one, requests))
    return replace(one, key=seal_engine(folder, one.key))
