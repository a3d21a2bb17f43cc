"""What alignment did: from alignment.json to words, a table and a picture."""

from collections.abc import Callable
from typing import Any

from markupsafe import Markup

from components.report import figures
from components.report.artifacts import Pairs, figure, flat

TITLES = {
    "reward@10": "Reward of the first ten, mean",
    "R@1": "Reward of the first",
    "R@50": "Highest reward among the first fifty",
    "HR@50": "HR@50",
    **{f"Recall@{cutoff}": f"Recall@{cutoff}" for cutoff in (1, 5, 10, 50)},
    **{f"recommended Recall@{cutoff}": f"Recall@{cutoff} with the repeat prior" for cutoff in (1, 5, 10, 50)},
    "hallucination_rate": "Codes that name no item, without the trie",
    "coverage@10": "Catalogue that is recommended to anyone",
    "popularity_bias@10": "Popularity bias, in percentiles",
}
"""The figures of the table, in its order. Whichever of them an outcome lacks is left out."""

SHARES = ("hallucination_rate", "coverage@10")
IN_PICTURE = {"reward@10": "reward", "Recall@10": "Recall@10", "Recall@50": "Recall@50"}
QUALITY = {
    "auc": "AUC on held-out pages",
    "user_auc": "AUC within a user",
    "own_auc": "AUC among what the user had before",
    "calibration_error": "foretold against observed, mean distance",
    "ratio": "foretold / observed, in all",
}
LEARNT = {
    "group": "rollouts a prompt (G)",
    "rollouts": "rollouts are",
    "constrained": "rollouts along the trie",
    "nll_weight": "weight of what was really chosen (α)",
    "entropy": "reward a nat of entropy",
    "spread": "rewards relative to the spread of the",
    "bound": "bound of gradients",
}


def read_alignment(outcome: dict[str, Any]) -> dict[str, Any]:
    """What the section shows, from the content of alignment.json. KeyError where that holds no verdict."""
    recipe, course = outcome["recipe"], outcome["course"]
    compared = bool(outcome["differences"])
    return {
        "passed": outcome["verdict"]["passed"],
        "reasons": outcome["verdict"]["reasons"],
        "seen": sentence(outcome) if compared else "",
        "watched": f"{recipe['alignment']['watched']:,}",
        "requests": f"{recipe['alignment']['gate']['requests']:,}",
        "split": recipe["alignment"]["gate"]["split"],
        "rows": table(outcome) if compared else [],
        "plot": _plot(course) if compared else "",
        "reward_model": _reward_model(outcome["reward_model"], recipe["reward_model"]["minimum_auc"]),
        "recipe": _recipe(outcome["objective"], recipe["rewards"], recipe["alignment"]),
    }


def sentence(outcome: dict[str, Any]) -> str:
    """What became of reward, recall and made-up codes; a rise or a fall is one whose interval is clear of zero."""
    change, before, after = outcome["differences"], outcome["base"], outcome["aligned"]
    reward = _went(change["reward@10"])
    recall = {f"Recall@{cutoff}": _went(change[f"Recall@{cutoff}"]) for cutoff in (10, 50)}
    fallen, risen = (" and ".join(name for name in recall if recall[name] == went) for went in ("falls", "rises"))
    if reward == "rises" and fallen:
        found = (
            f"The reward rises while recall falls ({fallen}): the model learns to please the reward and not the user, "
            "which is reward hacking."
        )
    elif fallen or risen:
        both = [f"recall {went} ({names})" for went, names in (("falls", fallen), ("rises", risen)) if names]
        found = f"The reward {reward}; {', '.join(both)}."
    else:
        found = f"The reward {reward}; recall does not move by more than chance."
    made_up = [one["hallucination_rate"] for one in (before, after)]
    return f"{found} {made_up[1]:.2%} of freely generated codes name no item, {made_up[0]:.2%} before."


def _went(difference: dict[str, float]) -> str:
    if difference["low"] > 0:
        return "rises"
    return "falls" if difference["high"] < 0 else "does not move by more than chance"


def table(outcome: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a figure: before, after, the difference with its interval where there is one, and what the gate asks."""
    asked = _asked(outcome["recipe"]["alignment"]["gate"])
    rows = []
    for name, title in TITLES.items():
        before, after = outcome["base"].get(name), outcome["aligned"].get(name)
        if before is None or after is None:
            continue
        shown: Callable[[float, str], str] = _share if name in SHARES else _number
        difference = outcome["differences"].get(name)
        rows.append(
            {
                "title": title,
                "before": shown(before, ""),
                "after": shown(after, ""),
                "difference": shown(after - before if difference is None else difference["mean"], "+"),
                "interval": "" if difference is None else _interval(difference, shown),
                "moved": difference is not None and _went(difference) in ("rises", "falls"),
                "asked": asked.get(name, ""),
            }
        )
    return rows


def _asked(gate: dict[str, Any]) -> dict[str, str]:
    """The bounds of the gate, in words."""
    recall = f"above {_number(-gate['recall_margin'], '+')}"
    return {
        "reward@10": "above 0",
        **{name: recall for name in TITLES if "Recall" in name},
        "hallucination_rate": "at most 0",
        "coverage@10": f"{gate['coverage_share']:.0%} of it stays",
        "popularity_bias@10": f"at most {_number(gate['popularity_rise'], '+')}",
    }


def _number(value: float, sign: str) -> str:
    return f"{value:{sign}.4f}".replace("-", "−")


def _share(value: float, sign: str) -> str:
    return f"{value:{sign}.2%}".replace("-", "−")


def _interval(difference: dict[str, float], shown: Callable[[float, str], str]) -> str:
    return f"{shown(difference['low'], '+')} to {shown(difference['high'], '+')}"


def _plot(course: list[dict[str, float]]) -> str:
    steps = [line["step"] for line in course]
    relative = {title: [line[name] for line in course] for name, title in IN_PICTURE.items()}
    return Markup(figures.alignment_course(steps, relative, [line["hallucination_rate"] for line in course]))


def _reward_model(quality: dict[str, Any], minimum_auc: float) -> Pairs:
    """How well the reward is founded."""
    return [*_facts(quality, QUALITY), ("AUC that alignment asks", figure(minimum_auc))]


def _recipe(objective: str, rewards: dict[str, Any], alignment: dict[str, Any]) -> Pairs:
    """What the reward was made of, and how it was learnt."""
    gate = rewards["gate"]
    return [
        *((f"reward: {name}", f"× {figure(weight)}") for name, weight in rewards["terms"].items()),
        ("relevance that an item must exceed", "none" if gate is None else figure(gate)),
        ("chosen items earn the highest of their group", figure(rewards["anchored"])),
        ("objective", objective),
        *_facts(alignment.get(objective, {}), LEARNT),
        ("steps", figure(alignment["loop"]["steps"])),
        ("prompts a step", figure(alignment["prompts"])),
        ("learning rate", f"{alignment['loop']['learning_rate']:.2g}"),
        ("share of the way to the weights that training ended with", figure(alignment["interpolation"])),
    ]


def _facts(values: dict[str, Any], titles: dict[str, str]) -> Pairs:
    """What has a title first, in the order of the titles."""
    names = [*(name for name in titles if name in values), *(name for name in values if name not in titles)]
    return [(title, figure(value)) for title, value in flat({titles.get(name, name): values[name] for name in names})]
