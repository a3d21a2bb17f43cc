"""Where the model stands among the counts: from evaluate's metrics.json to words and a table."""

from dataclasses import dataclass
from typing import Any

from components.report.artifacts import figure, flat

DEPTHS = (1, 5, 10, 50)
TABLE = ("HR@10", "Recall@10", "NDCG@10", "HR@50")
HEADLINE = "HR@10"
MODELS = {"model": "this model", "model_with_prior": "this model with its prior"}


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The measured models and counts, each by a title, and what is served: the last of the models."""

    models: dict[str, dict[str, Any]]
    baselines: dict[str, dict[str, Any]]
    against: dict[str, dict[str, dict[str, float]]]  # paired differences: what is served − a count, by title and metric
    hallucination_rate: float | None

    @property
    def served(self) -> dict[str, Any]:
        return list(self.models.values())[-1]

    @property
    def strongest(self) -> str:
        """The title of the count with the best hit rate."""
        return max(self.baselines, key=lambda title: self.baselines[title][HEADLINE])


def read_standing(metrics: dict[str, Any]) -> Standing:
    """From the content of metrics.json. KeyError where it holds no `model`, `baselines` or `differences`."""
    from nextpage.evaluation.baselines import TITLES

    models = {key: title for key, title in MODELS.items() if key == "model" or key in metrics}
    titles = {name: TITLES.get(name, name.replace("_", " ")) for name in metrics["baselines"]}
    against = metrics["differences"][list(models)[-1]]
    return Standing(
        models={title: metrics[key] for key, title in models.items()},
        baselines={title: metrics["baselines"][name] for name, title in titles.items()},
        against={title: against[name] for name, title in titles.items()},
        hallucination_rate=metrics.get("hallucination_rate"),
    )


def headline(standing: Standing) -> str:
    """What the model does, and where it stands against the strongest count, by the paired interval."""
    difference = standing.against[standing.strongest][HEADLINE]
    stands = "ahead of" if difference["low"] > 0 else "behind" if difference["high"] < 0 else "level with"
    return (
        f"Ten recommendations hold something the user chooses next in {standing.served[HEADLINE]:.0%} of cases, "
        f"{stands} the strongest simple count at {standing.baselines[standing.strongest][HEADLINE]:.0%}"
    )


def tiles(standing: Standing) -> list[dict[str, str]]:
    served, alone = standing.served, standing.models["this model"]
    low, high = served["intervals"][HEADLINE]
    difference = standing.against[standing.strongest][HEADLINE]
    without = "" if served is alone else f"; without its prior {alone[HEADLINE]:.1%}"
    return [
        {
            "label": "Hit rate of ten",
            "value": f"{served[HEADLINE]:.1%}",
            "note": f"95%: {low:.1%} to {high:.1%}{without}",
        },
        {
            "label": "Against the strongest count",
            "value": f"{_points(difference['mean'])} points",
            "note": f"95%: {_points(difference['low'])} to {_points(difference['high'])}; {standing.strongest}",
        },
    ]


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def recall(ranker: dict[str, Any]) -> dict[int, float]:
    """Recall by K."""
    return {depth: ranker[f"Recall@{depth}"] for depth in DEPTHS}


def table(standing: Standing) -> dict[str, Any]:
    """Rows with the best hit rate first; the best value of each column is marked."""
    cells = {
        title: [
            *((one[metric], one["intervals"][metric]) for metric in TABLE),
            (one["new_items"][HEADLINE], one["new_items"]["intervals"][HEADLINE]),
        ]
        for title, one in {**standing.models, **standing.baselines}.items()
    }
    best = [max((v for v, _ in column if v is not None), default=None) for column in zip(*cells.values(), strict=True)]
    rows = [
        {
            "title": title,
            "model": title in standing.models,
            "cells": [
                {
                    "value": "–" if value is None else f"{value:.3f}",
                    "interval": "" if value is None else f"{interval[0]:.3f}–{interval[1]:.3f}",
                    "best": value == top,
                }
                for (value, interval), top in zip(row, best, strict=True)
            ],
        }
        for title, row in sorted(cells.items(), key=lambda entry: -entry[1][0][0])
    ]
    beyond = [(name, figure(value)) for name, value in flat(standing.served["beyond_accuracy"])]
    if standing.hallucination_rate is not None:
        beyond.append(("codes that name no item, without the trie", f"{standing.hallucination_rate:.2%}"))
    return {
        "columns": [*TABLE, f"{HEADLINE}, new to the user"],
        "rows": rows,
        "requests": f"{standing.served['requests']:,}",
        "beyond": beyond,
    }
