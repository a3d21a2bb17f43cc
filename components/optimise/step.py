"""Engines for a release: built on this machine, held against torch, and kept where they are right."""

import os
import shutil
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from components.optimise.config import PRECISION, OptimiseConfig
from components.optimise.trial import Asked, answers, latencies, read_asked
from nextpage.decoding.beam_search import Found
from nextpage.decoding.eager import EagerEngine
from nextpage.decoding.engine import Engine
from nextpage.decoding.engine_folder import EngineKey, seal_engine
from nextpage.decoding.hardware import cpu_architecture
from nextpage.decoding.parity import Agreement, agreement, deviation
from nextpage.evaluation.bootstrap import Interval, paired_intervals
from nextpage.evaluation.metrics import ranking_metrics
from nextpage.gates import Verdict
from nextpage.models.decoder import CausalDecoder
from nextpage.recommender import read_decoder
from nextpage.release import ENGINES, verify

LIBRARY = "onnxruntime"


@dataclass(frozen=True, kw_only=True)
class Tried:
    """An engine beside the reference. `refused`: why it is left out; empty where it is kept."""

    name: str
    refused: str = ""
    agreement: Agreement | None = None  # None: it did not run
    differences: dict[str, Interval] = field(default_factory=dict)  # of recall, engine − reference
    key: EngineKey | None = None  # of what is kept


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All that was tried on `requests` held-out pages, and milliseconds of torch as it would serve, by batch size."""

    tried: tuple[Tried, ...]
    requests: int
    torch_latency_ms: dict[str, float]

    @property
    def fastest(self) -> EngineKey | None:
        """What `auto` will take: the kept engine that is the fastest, if it is faster than torch."""
        keys = [one.key for one in self.tried if one.key is not None and one.key.speed > 1]
        return max(keys, key=lambda key: key.speed, default=None)

    @property
    def verdict(self) -> Verdict:
        """Passed where no engine was left out. It stops nothing: what is left out is not served, torch is."""
        left_out = tuple(f"{one.name} is left out: {one.refused}" for one in self.tried if one.refused)
        kept = ", ".join(f"{one.name} ({one.key.speed:.2f} times torch)" for one in self.tried if one.key) or "none"
        return Verdict(gate="engines", passed=not left_out, reasons=left_out or (f"kept: {kept}",))


def optimise(*, release: Path, features: Path, clean: Path, optimised: Path, config: OptimiseConfig) -> Outcome:
    """Fill the folder `optimised` with the sealed release and, beside its files, the engines that are right.

    Whatever keeps one from being built and run leaves it out. Raises ReleaseRefused where the release is not as it was
    sealed.
    """
    sealed = verify(release)
    shutil.copytree(release, optimised, dirs_exist_ok=True, ignore=shutil.ignore_patterns(ENGINES))
    decoder = read_decoder(release).eval()
    asked = read_asked(release, features, clean, split=config.split, requests=config.requests)
    reference = EagerEngine(decoder)
    expected = answers(reference, asked, "reference")
    running: dict[str, Engine[Any]] = {}
    tried = []
    for name in config.engines:
        try:
            running[name] = _built(name, decoder, _folder(optimised, name))
            one = judged(name, answers(running[name], asked, name), expected, asked, config)
        except Exception as error:  # of a library that may be another or absent: the release serves without it
            one = Tried(name=name, refused=f"it cannot be built and run here ({error})")
        if one.refused:
            print(f"{name} is left out: {one.refused}")
            running.pop(name, None)
            shutil.rmtree(_folder(optimised, name), ignore_errors=True)
        tried.append(one)
    served = EagerEngine(decoder, dtype=torch.bfloat16 if asked.decoding.bf16 else None)
    took = _latencies(running, served, asked, config)
    for place, one in enumerate(tried):
        if not one.refused:
            key = _key(one.name, sealed.hash, took, deviation(running[one.name], reference))
            tried[place] = _sealed(replace(one, key=key), _folder(optimised, one.name), len(asked.trial))
    return Outcome(tried=tuple(tried), requests=len(asked.trial), torch_latency_ms=took["torch"])


def figures(outcome: Outcome) -> dict[str, float]:
    """Under names that a list of metrics can hold: torch_ms_1, onnx_int8_ms_8 and so on."""
    by_engine = {"torch": outcome.torch_latency_ms} | {one.name: one.key.latency_ms for one in outcome.tried if one.key}
    return {
        f"{name.replace('-', '_')}_ms_{size}": latency
        for name, latencies in by_engine.items()
        for size, latency in latencies.items()
    }


def judged(name: str, found: Found, expected: Found, asked: Asked, config: OptimiseConfig) -> Tried:
    """An engine by its answers: in fp32 by the reference's, rounded by what was really chosen."""
    agreed = agreement(expected, found)
    metrics = [
        ranking_metrics(one.rows.numpy(), asked.trial.truth, cutoffs=config.cutoffs) for one in (found, expected)
    ]
    recalls = [f"Recall@{cutoff}" for cutoff in config.cutoffs]
    between = paired_intervals(*metrics, asked.trial.user_id, config.bootstrap)
    differences = {metric: between[metric] for metric in recalls}
    broken = []
    if PRECISION[name] == "fp32":
        if not agreed.scores <= config.score_bound:
            broken.append(
                f"log-probabilities differ by {agreed.scores:.2g}, at most {config.score_bound:.2g} is rounding"
            )
        if not agreed.items >= 1 - config.changed_items:
            broken.append(
                f"{1 - agreed.items:.2%} of the items are others, at most {config.changed_items:.2%} is rounding"
            )
    else:
        broken += [
            f"{metric} may be inferior: {difference.mean:+.4f} ({difference.low:+.4f} to {difference.high:+.4f}), must "
            f"lie above {-config.recall_margin:+.4f}"
            for metric, difference in differences.items()
            if not difference.low > -config.recall_margin
        ]
    return Tried(name=name, refused="; ".join(broken), agreement=agreed, differences=differences)


def _folder(optimised: Path, name: str) -> Path:
    return optimised / ENGINES / f"{name}.{cpu_architecture()}"


def _built(name: str, decoder: CausalDecoder, folder: Path) -> Engine[Any]:
    from nextpage.decoding.onnx_engine import OnnxEngine, build

    build(decoder, folder, PRECISION[name])
    return OnnxEngine(folder, threads=_cores())


def _sealed(one: Tried, folder: Path, requests: int) -> Tried:
    from components.optimise.card import engine_card

    assert one.key is not None
    (folder / "card.md").write_text(engine_card(one, requests))
    return replace(one, key=seal_engine(folder, one.key))


def _latencies(
    running: dict[str, Engine[Any]], torch_engine: Engine[Any], asked: Asked, config: OptimiseConfig
) -> dict[str, dict[str, float]]:
    """As each would serve: beside ONNX Runtime torch has one thread."""
    engines = {"torch": torch_engine, **running}
    threads = {"torch": _cores(), **dict.fromkeys(running, 1)}
    return latencies(engines, threads, asked, config.batches, config.repeats)


def _key(name: str, release: str, took: dict[str, dict[str, float]], deviates: float) -> EngineKey:
    return EngineKey(
        engine=name,
        device="cpu",
        architecture=cpu_architecture(),
        library=LIBRARY,
        version=metadata.version(LIBRARY),
        precision=PRECISION[name],
        release=release,
        deviation=deviates,
        latency_ms=took[name],
        torch_latency_ms=took["torch"],
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0))
