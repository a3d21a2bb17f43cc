"""The model card: where a model stands against counting, in words and figures, and what the figures do not say."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nextpage.evaluation.baselines import TITLES
from nextpage.evaluation.bootstrap import Interval
from nextpage.evaluation.gates import Comparison
from nextpage.evaluation.harness import HEADLINE, Report, SliceReport
from nextpage.gates import Verdict

COLUMNS = ("HR@1", "HR@10", "Recall@10", "NDCG@10", "MRR@10", "HR@50")
NEW = "new items HR@10"
SAID = {
    "beats": "it beats",
    "level with": "it is level with",
    "loses to": "it loses to",
    "no data on": "nothing is known on",
}


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All that an evaluation found. `models`: the rankings shown, by name, the model alone first."""

    title: str
    split: str
    users: int
    models: Mapping[str, Report]
    baselines: Mapping[str, Report]
    comparisons: Mapping[str, Comparison]  # model → baseline → metric
    invalid_share: float
    verdicts: Sequence[Verdict]


def write_card(findings: Findings) -> str:
    """The card in Markdown."""
    sections = [
        f"# Model card: {findings.title}",
        *(_summary(name, report, findings) for name, report in findings.models.items()),
        _verdicts(findings.verdicts),
        "## Accuracy\n\nFull catalogue, counted on items. After ± half the 95% interval, by bootstrap over users.",
        _accuracy(findings),
        "## Against each count\n\nThe difference on the same requests, with its interval. Clear of zero is a win or a "
        "loss; anything else is level.",
        *(_against(name, findings.comparisons[name]) for name in findings.models),
        "## Beyond accuracy\n\nOf the first ten places. Popularity bias: how much more popular than what users took, "
        "in percentiles of the catalogue.",
        _beyond(findings),
        "## Parts of the requests\n\nHR@10, Recall@10 and NDCG@10 of the model alone.",
        _slices(next(iter(findings.models.values())).slices),
        _limits(findings),
    ]
    return "\n\n".join(sections) + "\n"


def standing(interval: Interval) -> str:
    """What a paired interval of ranker − other says in a word."""
    if interval.low > 0:
        return "beats"
    if math.isnan(interval.low):
        return "no data on"
    return "loses to" if interval.high < 0 else "level with"


def _summary(name: str, report: Report, findings: Findings) -> str:
    hit = report.metrics["HR@10"]
    groups: dict[str, list[str]] = {word: [] for word in SAID}
    for baseline, metrics in findings.comparisons[name].items():
        groups[standing(metrics["HR@10"])].append(TITLES[baseline])
    said = [f"{SAID[word]} {_listed(titles)}" for word, titles in groups.items() if titles]
    return (
        f"**{_sentence(name)}**: on {hit.mean:.1%} of {report.requests:,} {findings.split} pages of {findings.users:,} "
        f"users one of the first ten items was taken (95% interval {hit.low:.1%} to {hit.high:.1%}). "
        f"By HR@10 {'; '.join(said)}."
    )


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    lines = ["## Gates", ""]
    for verdict in verdicts:
        lines.append(f"- **{verdict.gate}: {'passed' if verdict.passed else 'FAILED'}**: {'; '.join(verdict.reasons)}")
    return "\n".join(lines)


def _accuracy(findings: Findings) -> str:
    return _table(
        ["", *COLUMNS, "HR@10, items new to the user"],
        [
            [title, *(_plus_minus(report.metrics[c]) for c in COLUMNS), _plus_minus(report.new_items["HR@10"])]
            for title, report in _all(findings)
        ],
    )


def _against(name: str, comparison: Comparison) -> str:
    columns = (*HEADLINE, NEW)
    rows = [
        [TITLES[baseline], *(f"**{standing(metrics[c])}** {_signed(metrics[c])}" for c in columns)]
        for baseline, metrics in comparison.items()
    ]
    return f"### {_sentence(name)}\n\n" + _table(["against", *columns], rows)


def _beyond(findings: Findings) -> str:
    names = list(next(iter(findings.models.values())).beyond_accuracy)
    rows = [[title, *(f"{report.beyond_accuracy[n]:.3f}" for n in names)] for title, report in _all(findings)]
    return _table(["", *names], rows)


def _slices(slices: Iterable[SliceReport]) -> str:
    rows = [
        [part.axis, part.value, f"{part.requests:,}", *(_plus_minus(part.metrics[c]) for c in HEADLINE)]
        for part in slices
        if part.requests
    ]
    return _table(["by", "", "requests", *HEADLINE], rows)


def _limits(findings: Findings) -> str:
    return f"""## How it was measured, and its limits

- HR@K: a page counts where any of the first K items was taken. NDCG@K is binary, its ideal holds min(K, taken) items.
- Items new to the user: the truth keeps only items that the user's whole history lacks, and seen items are taken out of
  the ranking; of a model those are taken out of its first 50 places.
- Counts read the user's whole history, the model only the events that the feature store keeps.
- {findings.invalid_share:.2%} of code tuples generated **without** the trie name no item; all rankings above are
  **constrained** by the trie and hold items only.
- Offline truth is what users took without this recommender: it favours what they already buy and cannot credit an item
  they would have taken if shown. An A/B comparison decides.
- One period of one log and one training run: the intervals hold the chance of which users were asked, not that of
  another season or seed."""


def _all(findings: Findings) -> list[tuple[str, Report]]:
    models = [(f"**{name}**", report) for name, report in findings.models.items()]
    return models + [(TITLES[name], report) for name, report in findings.baselines.items()]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows])


def _plus_minus(interval: Interval) -> str:
    return "–" if math.isnan(interval.mean) else f"{interval.mean:.3f} ±{(interval.high - interval.low) / 2:.3f}"


def _signed(interval: Interval) -> str:
    return f"{interval.mean:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"


def _listed(titles: Sequence[str]) -> str:
    return "; ".join(f"“{title}”" for title in titles)


def _sentence(name: str) -> str:
    return name[0].upper() + name[1:]
