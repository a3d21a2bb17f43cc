"""Print the counting baselines on The Complete Journey beside what the design notes measured.

    python benchmarks/baselines.py [--split validation] [--requests 1500] [--half-life 60] [--weight 0.15]

Catalogue: the 27,007 products bought at least five times before week 50. Counts: weeks 1 to 49. Requests: baskets of
weeks 52 and 53 (validation: 50 and 51), a sample by hash; 0 means all. Intervals: 95%, bootstrap over households,
seed 0. "first notes": one earlier measurement of 1,500 test baskets, intervals about ±.025 on HR@10.
"""

import argparse
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

from components.measure import measured
from nextpage.evaluation.baselines import TITLES, BaselineConfig
from nextpage.evaluation.bootstrap import BootstrapConfig
from nextpage.evaluation.harness import Report, evaluate_baselines
from nextpage.evaluation.trial import read_trial
from nextpage.interactions.loaders import Source, load

COLUMNS = ("HR@10", "Recall@10", "NDCG@10", "HR@50", "new HR@10")
FIRST_NOTES = {
    "recent_popularity": (0.339, 0.114, 0.099, 0.511, 0.066),
    "cooccurrence": (0.245, 0.042, 0.054, 0.406, 0.047),
    "bigram_last_page": (0.361, 0.127, 0.111, 0.522, 0.053),
    "bigram_prompt": (0.386, 0.135, 0.117, 0.577, 0.057),
    "own_frequency": (0.509, 0.187, 0.188, 0.675, None),
    "own_recency": (0.532, 0.204, 0.206, 0.698, 0.056),
    "own_recency_bigram": (0.547, 0.218, 0.213, 0.711, 0.057),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = BaselineConfig()
    parser.add_argument("--split", default="test", choices=("test", "validation"))
    parser.add_argument("--requests", type=int, default=1_500, help="0: all of the split")
    parser.add_argument("--half-life", type=float, default=defaults.half_life_days, help="days")
    parser.add_argument("--weight", type=float, default=defaults.transition_weight, help="of the bigram")
    given = parser.parse_args()
    config = BaselineConfig(half_life_days=given.half_life, transition_weight=given.weight)
    with tempfile.TemporaryDirectory() as folder, measured() as cost:
        dataset = load(Source(options={"exposed_per_page": 0, "clicked_per_page": 0}), Path(folder))
        item_ids = pq.read_table(dataset.items, columns=["item_id"])["item_id"].to_pylist()
        start = time.perf_counter()
        trial = read_trial(
            dataset,
            item_ids,
            split=given.split,
            limit=given.requests or None,
            relevant=("ordered",),
            recent_days=config.recent_days,
        )
        read = time.perf_counter() - start
        reports = evaluate_baselines(trial, config, BootstrapConfig())
        seconds = time.perf_counter() - start
    new = len(trial.new_truth.item) / len(trial.truth.item)
    print(f"{len(trial)} {given.split} baskets, {len(item_ids)} products, {1 - new:.1%} of the truth are repeats")
    print(table(reports, FIRST_NOTES if given.split == "test" else {}))
    print(f"{read:.1f} s to read and count, {seconds - read:.1f} s to rank and measure, {cost.peak_memory_mb:.0f} MB")


def table(reports: dict[str, Report], notes: dict[str, tuple[float | None, ...]]) -> str:
    """One row a baseline: measured with interval, and below it the figures of `notes`."""
    lines = [f"{'':64}" + "".join(f"{name:>16}" for name in COLUMNS)]
    for name, report in reports.items():
        found = {**report.metrics, "new HR@10": report.new_items["HR@10"]}
        cells = [f"{found[c].mean:.3f} ±{(found[c].high - found[c].low) / 2:.3f}" for c in COLUMNS]
        lines.append(f"{TITLES[name]:64}" + "".join(f"{cell:>16}" for cell in cells))
        if name in notes:
            figures = ["" if figure is None else f"{figure:.3f}" for figure in notes[name]]
            lines.append(f"{'    first notes':64}" + "".join(f"{figure + ' ' * 7:>16}" for figure in figures))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
