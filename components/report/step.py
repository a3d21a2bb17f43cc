"""One page on a run: what a manager decides by, what an engineer looks up."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from components.report import figures
from components.report.alignment import read_alignment
from components.report.artifacts import (
    MOST_REASONS,
    Pairs,
    RunArtifacts,
    figure,
    flat,
    read_codes,
    read_log,
    read_quarantine,
    read_training,
    read_verdicts,
    seconds,
)
from components.report.comparison import headline, read_standing, recall, table, tiles
from components.report.samples import read_samples
from nextpage.gates import Verdict

INFORMING = {"drift": ("no drift", "drift"), "alignment": ("aligned", "base goes on")}
"""Gates that inform and never stop a run, with their words for passed and not."""

HEALTH = {
    "items": "items",
    "colliding_before": "nearest codes are another item's too",
    "recoded": "recoded to be one of a kind",
    "colliding_after": "share all codes with another",
    "moved": "moved to another cell",
    "neighbour": "nearest items that share the first code",
    "neighbour_chance": "the same for random pairs",
    "category": "of the commonest category of their first code",
    "category_chance": "of the commonest category of all",
}
"""A tokenizer's QualityReport in words."""

CONTENTS = (
    ("verdicts", "Verdicts"),
    ("quality", "Quality"),
    ("samples", "Recommendations"),
    ("data", "Data"),
    ("tokenizer", "Semantic IDs"),
    ("training", "Training"),
    ("alignment", "Alignment"),
    ("drift", "Drift"),
    ("experiments", "A/B tests"),
    ("card", "Model card"),
    ("cost", "Cost"),
    ("serve", "Serve it"),
)


def write_report(report: Path, artifacts: RunArtifacts) -> None:
    """Write the page. It loads nothing, runs no script, and escapes all that came with the data.

    Raises FileNotFoundError or KeyError where an artifact that is named is missing or lacks what the page shows.
    """
    from markupsafe import Markup

    log, verdicts = read_log(artifacts.clean), read_verdicts(artifacts)
    standing = read_standing(json.loads(artifacts.metrics.read_text()))
    training, codes = read_training(artifacts.training_log), read_codes(artifacts.tokenizer)
    drift = None if artifacts.drift is None else json.loads(artifacts.drift.read_text())
    samples = [] if artifacts.predictions is None else read_samples(artifacts.predictions, artifacts.clean)
    plots = {
        "recall": figures.recall_by_k(
            {title: recall(one) for title, one in standing.models.items()},
            {title: recall(one) for title, one in standing.baselines.items()},
        ),
        "codes": figures.code_usage(codes),
        "loss": figures.training_loss(training["step"], training["loss"], training["tokens_per_second"]),
        "drift": "" if drift is None else _drift_plot(drift),
    }
    page = render(
        "template.html",
        name=artifacts.name,
        contents=CONTENTS,
        headline=headline(standing),
        summary=_summary(log, verdicts),
        tiles=[*tiles(standing), *_cost_tiles(log, artifacts)],
        verdicts=[_shown(verdict) for verdict in verdicts],
        quality=table(standing),
        samples=samples,
        data={"counts": _counts(log), "quarantine": _quarantine(artifacts.quarantine, log["events"])},
        tokenizer=_health(json.loads((artifacts.tokenizer / "quality.json").read_text())),
        training=_training(training),
        alignment=None if artifacts.alignment is None else read_alignment(json.loads(artifacts.alignment.read_text())),
        drift=None if drift is None else {"sentence": _drift_sentence(drift)},
        model_card=Markup(_markdown(artifacts.model_card.read_text())),
        costs=_costs(artifacts),
        release=_release(artifacts, samples),
        plots={name: Markup(plot) for name, plot in plots.items()},
    )
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(page)


def render(template: str, **values: Any) -> str:
    """A page from a template of this folder; what came with the data is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(template).render(**values)


def _summary(log: dict[str, Any], verdicts: list[Verdict]) -> str:
    gates = [verdict for verdict in verdicts if verdict.gate not in INFORMING]
    failed = [verdict.gate for verdict in gates if not verdict.passed]
    passed = f"{len(failed)} of {len(gates)} gates failed ({', '.join(failed)})." if failed else "All gates passed."
    told = {
        "alignment": (" The model is aligned.", " The model is its base: no aligned one took its place."),
        "drift": (" No drift was found.", " Drift was found; see below."),
    }
    news = "".join(told[one.gate][0 if one.passed else 1] for one in verdicts if one.gate in told)
    first, last = _day(log["first"]), _day(log["last"])
    return (
        f"The log holds {log['events']:,} events of {log['users']:,} users from {first} to {last}; "
        f"the model recommends from {log['items']:,} items. {passed}{news}"
    )


def _cost_tiles(log: dict[str, Any], artifacts: RunArtifacts) -> list[dict[str, str]]:
    total = sum(cost["seconds"] for cost in artifacts.costs.values())
    peak = max((cost["peak_memory_mb"] for cost in artifacts.costs.values()), default=0.0)
    return [
        {"label": "Items it can name", "value": f"{log['items']:,}", "note": f"for {log['users']:,} users"},
        {"label": "Time of the run", "value": seconds(total), "note": f"at most {peak / 1024:.1f} GB of memory"},
    ]


def _shown(verdict: Verdict) -> dict[str, Any]:
    """A verdict with its word and its look: drift, or a base that goes on, is news and no fault."""
    words = INFORMING.get(verdict.gate, ("passed", "failed"))
    word = words[0 if verdict.passed else 1]
    look = "passed" if verdict.passed else "news" if verdict.gate in INFORMING else "failed"
    return {**vars(verdict), "word": word, "look": look}


def _counts(log: dict[str, Any]) -> Pairs:
    split = log["split"]
    pairs = [(name.capitalize(), f"{log[name]:,}") for name in ("users", "items", "pages", "events")]
    pairs += [(f"Events {name}", f"{count:,}") for name, count in log["behaviours"].items() if count]
    pairs.append(("From … to", f"{log['first']} … {log['last']}"))
    if split.kind == "time":
        pairs.append(("Validation from, test from", f"{split.validation_start:%Y-%m-%d}, {split.test_start:%Y-%m-%d}"))
    else:
        pairs.append(("Test", "each user's last page; validation the one before"))
    return pairs


def _quarantine(path: Path, kept: int) -> Pairs:
    reasons = read_quarantine(path)
    total = sum(count for _, count in reasons)
    pairs = [("Rows in quarantine", f"{total:,} ({total / max(1, kept + total):.2%})")]
    pairs += [(reason, f"{count:,}") for reason, count in reasons[:MOST_REASONS]]
    if len(reasons) > MOST_REASONS:
        pairs.append(("other reasons", f"{sum(count for _, count in reasons[MOST_REASONS:]):,}"))
    return pairs


def _health(quality: dict[str, Any]) -> dict[str, Any]:
    """A table of the levels, and the figures of the whole."""
    levels = [dict(flat(level)) for level in quality["levels"]]
    return {
        "columns": list(levels[0]),
        "rows": [[figure(value) for value in level.values()] for level in levels],
        "whole": [
            (words, figure(quality[name]) if name in ("items", "moved") else f"{quality[name]:.1%}")
            for name, words in HEALTH.items()
            if quality[name] is not None
        ],
    }


def _training(log: dict[str, Any]) -> Pairs:
    import numpy as np

    pairs = [
        ("Optimiser steps", f"{log['step'][-1]:,.0f}"),
        ("Loss, first and last", f"{log['loss'][0]:.2f} → {log['loss'][-1]:.2f}"),
        ("Tokens a second, median", f"{np.nanmedian(log['tokens_per_second']):,.0f}"),
        ("Time", seconds(float(np.nansum(log["seconds"])))),
    ]
    if "mfu" in log and np.isfinite(log["mfu"]).any():
        pairs.append(("Share of the machine's peak (MFU)", f"{np.nanmedian(log['mfu']):.1%}"))
    if "learning_rate" in log:
        pairs.append(("Learning rate, highest", f"{np.nanmax(log['learning_rate']):.2g}"))
    return pairs


def _drift_plot(drift: dict[str, Any]) -> str:
    chance = {(one["kind"], one["column"]): one["value"] / one["bound"] for one in drift["chance"]}
    found = sorted(drift["findings"], key=lambda one: -one["value"] / one["bound"])
    return figures.drift(
        [f"{one['column'].replace('_', ' ')} ({one['kind']})" for one in found],
        [one["value"] / one["bound"] for one in found],
        [chance.get((one["kind"], one["column"])) for one in found],
    )


def _drift_sentence(drift: dict[str, Any]) -> str:
    reference, current = drift["windows"]["reference"], drift["windows"]["current"]
    moved = [one["column"].replace("_", " ") for one in drift["findings"] if one["drifted"]]
    found = f"Past its bound: {', '.join(moved)}." if moved else "Nothing passed its bound."
    windows = " against ".join(
        f"{_day(window['start'])} to {_day(window['end'])} ({window['pages']:,} pages)"
        for window in (reference, current)
    )
    return f"{windows}. {found}"


def _day(moment: str) -> str:
    day = datetime.fromisoformat(moment)
    return f"{day.day} {day:%B %Y}"


def _markdown(text: str) -> str:
    """Markdown as HTML. No raw HTML, links or images: the card holds item text, and the page loads nothing."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable("table").disable(["link", "image", "autolink"]).render(text)


def _costs(artifacts: RunArtifacts) -> list[dict[str, Any]]:
    """Steps in the order of the run, and their total; bars are shares of the longest."""
    longest = max((cost["seconds"] for cost in artifacts.costs.values()), default=0.0) or 1.0
    rows = [
        {
            "name": name,
            "share": round(100 * cost["seconds"] / longest, 1),
            "time": seconds(cost["seconds"]),
            "memory": f"{cost['peak_memory_mb']:,.0f} MB",
        }
        for name, cost in artifacts.costs.items()
    ]
    total = {
        "name": "total",
        "share": None,
        "time": seconds(sum(cost["seconds"] for cost in artifacts.costs.values())),
        "memory": f"{max((cost['peak_memory_mb'] for cost in artifacts.costs.values()), default=0.0):,.0f} MB",
    }
    return [*rows, total]


def _release(artifacts: RunArtifacts, samples: list[dict[str, Any]]) -> dict[str, str]:
    user = samples[0]["user_id"] if samples else "1"
    return {
        "hash": artifacts.release_hash,
        "address": "http://127.0.0.1:8080/v1/models/nextpage:predict",
        "body": json.dumps({"instances": [{"user_id": user, "k": 10}]}),
    }
