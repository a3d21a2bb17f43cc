"""Releases, evidence and settings for the tests of gate and deploy."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.deploy.config import RolloutConfig
from nextpage.experiments.rule import Rule
from nextpage.release import FeatureService, Manifest, seal
from tests.experiments.logs import make_rows, make_rule

DAYS = 2  # few: every look is computed anew by whoever reads a record


def a_rule(**settings: Any) -> Rule:
    guardrails = [
        {"metric": "clicks per item", "margin": 0.05},
        {"metric": "errors", "direction": "decrease", "margin": 0.02, "absolute": True},
    ]
    return make_rule(guardrails=guardrails, horizon_days=3 * DAYS, promotion_days=DAYS, **settings)


def a_sealed_release(folder: Path, name: str, rule: Rule | None = None) -> Manifest:
    """A release without a model: nobody here generates."""
    folder.mkdir(parents=True)
    items = {"item_id": ["tea", "milk", "bread"], "orders": pa.array([5, 9, 7], pa.int64())}
    pq.write_table(pa.table(items), folder / "items.parquet")
    (folder / "recipe.yaml").write_text("name: tiny\n")
    (folder / "weights.safetensors").write_text(f"weights of {name}")
    if rule is not None:
        (folder / "rule.yaml").write_text(rule.to_yaml())
    service = FeatureService(name="recommender", hash="f00d")
    return seal(folder, name=name, recipe="tiny", feature_service=service)


def settings(folder: Path, **changed: Any) -> RolloutConfig:
    known: dict[str, Any] = {
        "records": str(folder / "records"),
        "storage": "oci://models.example.com/shop:{name}",
        "events": str(folder / "evidence.parquet"),
        "service": "shop",
        "namespace": "nextpage",
        "hostnames": ("shop.example.com",),
        "ramp": (10, 50, 100),
        "linger_s": 0.0,
    }
    return RolloutConfig(**known | changed)


def write_evidence(path: Path, case: str, days: int = DAYS) -> None:
    """Of a case that comes out as PROMOTE, HOLD, ROLLBACK or INVALID by `a_rule`, or has no rows at all."""
    effect = {"PROMOTE": 0.6, "ROLLBACK": -0.6}.get(case, 0.0)
    treated = np.arange(800) % 8 < 3 if case == "INVALID" else np.arange(800) % 2 == 0
    rows = make_rows(800, days, seed=1, value=effect, clicks=effect / 2, treated=treated, error_rate=(0.0, 0.0))
    for column in ("fallbacks", "slow"):
        rows = rows.append_column(column, pa.array(np.zeros(len(rows))))
    pq.write_table(rows.slice(0, 0) if case == "no data" else rows, path)
