"""The releases of the demo's A/B tests: copies of a run's own, each with one thing changed, sealed under its own hash.

Each bears the demo's rule, so that it is registered before anybody sees the release.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nextpage.experiments.rule import parse_rule
from nextpage.release import ENGINES, MANIFEST, seal, verify

Change = Callable[[Path], None]  # of the files of a release

RULE = """
experiment: {experiment}
metrics:
  - {{name: orders per slate, numerator: orders, denominator: requests, cuped: true}}
  - {{name: clicks per item, numerator: clicks, denominator: exposures}}
  - {{name: value per slate, numerator: value, denominator: requests}}
  - {{name: fallbacks, numerator: fallbacks, denominator: requests}}
  - {{name: errors, numerator: errors, denominator: requests}}
  - {{name: slow requests, numerator: slow, denominator: requests}}
primary: {{metric: orders per slate, minimum_effect: 0.05}}
guardrails:
  - {{metric: clicks per item, margin: 0.05}}
  - {{metric: value per slate, margin: 0.1}}
  - {{metric: fallbacks, direction: decrease, margin: 0.02, absolute: true}}
  - {{metric: errors, direction: decrease, margin: 0.02, absolute: true}}
  - {{metric: slow requests, direction: decrease, margin: 0.05, absolute: true}}
horizon_days: 28
minimum_users: 100
promotion: auto
segments: [shopper]
"""
"""Written before any replay was looked at. As many days as the demo's held-out weeks have; fewer users than a real rule
should ask for: two thousand households are all there are, and harm must be seen in a tenth of them."""


def variant(release: Path, folder: Path, *, name: str, change: Change) -> Path:
    """A release like `release` but for `change`, in `folder`/`name`. Figures, card and engines, which are of the
    original, are left out. Raises ReleaseRefused where the original was changed."""
    manifest, made = verify(release), folder / name
    shutil.rmtree(made, ignore_errors=True)
    shutil.copytree(release, made, ignore=shutil.ignore_patterns(MANIFEST, "metrics.json", "card.md", ENGINES))
    change(made)
    (made / "rule.yaml").write_text(parse_rule(RULE.format(experiment=name)).to_yaml())
    seal(made, name=name, recipe=manifest.recipe, feature_service=manifest.feature_service)
    return made


def unchanged(folder: Path) -> None:
    """Nothing but the name."""


def without_prior(folder: Path) -> None:
    """The model alone: the repeat prior of its recipe gets the weight 0."""
    from nextpage.recipes import read_recipe

    path = folder / "recipe.yaml"
    read_recipe(path).with_settings(["repeat_prior.weight=0"]).write(path)


def shuffled(folder: Path) -> None:
    """Items permuted among semantic IDs: each code names another item than in training, and all else is in order, so
    that no smoke test can tell. Without the prior: it needs no codes, and own items would hide most of the harm."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from nextpage.tokenizers.semantic_ids import SemanticIds

    without_prior(folder)
    ids, items = SemanticIds.read(folder / "semantic_ids.parquet"), pq.read_table(folder / "items.parquet")
    order = np.random.default_rng(0).permutation(len(items))
    SemanticIds(item_ids=ids.item_ids[order], codes=ids.codes, sizes=ids.sizes).write(folder / "semantic_ids.parquet")
    pq.write_table(items.take(pa.array(order)), folder / "items.parquet")
