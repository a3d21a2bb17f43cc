"""How far a column moved, measured by Evidently, at a resolution that the sample can bear.

Why the Jensen–Shannon distance and not a p-value or PSI. At a million rows every test rejects: it asks whether two
samples differ at all. A distance asks how much. Evidently's PSI puts a millionth in place of an empty cell, so one
rare code that nobody bought this month moves it past any bound; Jensen–Shannon takes an empty cell as it is.

Why the cells are pooled. Two samples of n and m rows of one distribution over K cells lie at a squared distance of
about (1/n + 1/m)/8 times a chi-squared of K − 1 degrees of freedom. So there are only as many cells as chance keeps
within the bound, and one bound then holds for a small window and a large one; where there are not rows enough for two
cells the column is not measured. The rarest values share the cell "(other)"; numbers fall in the reference's quantiles,
since Evidently's equal widths put nearly all of a heavy-tailed column in one cell; nulls are a cell of their own.

Quality is a mean per request, and only its fall counts. Its bound is the configured drop, or three standard errors
where there are too few requests to see that much.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.monitor.config import MonitorConfig
from components.monitor.windows import Pair

os.environ.setdefault("DO_NOT_TRACK", "1")  # before Evidently is imported: it calls home otherwise

if TYPE_CHECKING:
    import pandas as pd

DISTANCE = "Jensen–Shannon distance"
DROP = "relative drop"
MOST_QUANTILES = 20
MOST_CELLS = 300  # a codebook of 256 stays whole
CERTAINTY = 0.999  # that chance alone stays within the bound
ALIKE = 2.0  # items of a page are alike: so many rows tell as much as one


@dataclass(frozen=True, kw_only=True)
class Finding:
    """How far one column moved."""

    kind: str
    column: str
    measure: str
    value: float
    bound: float

    @property
    def drifted(self) -> bool:
        return self.value >= self.bound

    def sentence(self) -> str:
        return f"{self.kind}: {self.column} moved by a {self.measure} of {self.value:.3f}, bound {self.bound:.3f}"


def measure(pairs: list[Pair], config: MonitorConfig, html: Path | None = None) -> list[Finding]:
    """A finding for each of the `measurable` columns, quality last; Evidently's own page is written to `html`."""
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import MeanValue
    from evidently.presets import DataDriftPreset
    from evidently.tests import Reference, gte

    quality = [_drop(pair, config.bound("quality")) for pair in pairs if pair.kind == "quality"]
    labels = {p.column: cells(p, config.bound(p.kind)) for p in pairs if p.kind != "quality"}
    bounds = {p.column: config.bound(p.kind) for p in pairs if p.kind != "quality"}
    columns = labels | {p.column: (p.reference, p.current) for p in pairs if p.kind == "quality"}
    # One frame for grains of different length: Evidently leaves the padding nulls out, column by column.
    reference, current = (
        pd.concat([columns[p.column][side].reset_index(drop=True).rename(p.column) for p in pairs], axis=1)
        for side in (0, 1)
    )
    definition = DataDefinition(
        categorical_columns=list(labels), numerical_columns=[finding.column for finding in quality]
    )
    drift = DataDriftPreset(
        columns=list(labels), cat_method="jensenshannon", per_column_threshold=bounds, drift_share=1 / len(labels)
    )
    means = [MeanValue(column=f.column, tests=[gte(Reference(relative=f.bound))]) for f in quality]
    snapshot = Report([*means, drift], include_tests=True).run(
        Dataset.from_pandas(current, data_definition=definition),
        Dataset.from_pandas(reference, data_definition=definition),
    )
    if html is not None:
        snapshot.save_html(str(html))
    scores = {
        metric["config"]["column"]: float(metric["value"])
        for metric in snapshot.dict()["metrics"]
        if metric["config"]["type"].endswith("ValueDrift")
    }
    distances = [
        Finding(kind=p.kind, column=p.column, measure=DISTANCE, value=scores[p.column], bound=bounds[p.column])
        for p in pairs
        if p.kind != "quality"
    ]
    return [*distances, *quality]


def most_cells(pair: Pair, bound: float) -> int:
    """Into how many cells both windows may be cut before chance reaches the bound; under 2 nothing can be said."""
    import numpy as np
    from scipy.stats import chi2

    rows = min(len(pair.reference), len(pair.current)) / ALIKE
    noise = chi2.ppf(CERTAINTY, np.arange(1, MOST_CELLS)) / (4 * rows)
    return 1 + int((noise <= bound**2).sum())


def measurable(pair: Pair, bound: float) -> bool:
    """Are there rows enough for two cells, or, of quality, any hit in the reference that could be lost?"""
    return bool(pair.reference.mean() > 0) if pair.kind == "quality" else most_cells(pair, bound) >= 2


def cells(pair: Pair, bound: float) -> tuple["pd.Series", "pd.Series"]:
    """Both windows of a column as labels, `most_cells` at most."""
    import numpy as np
    import pandas as pd

    most = most_cells(pair, bound)
    if pd.api.types.is_numeric_dtype(pair.reference) and pair.reference.notna().any():
        shares = np.linspace(0, 1, min(most, MOST_QUANTILES) + 1)[1:-1]
        edges = np.unique(pair.reference.quantile(shares, interpolation="lower"))
        names = np.asarray([*(f"up to {edge:.4g}" for edge in edges), f"above {edges[-1]:.4g}"], dtype=object)
        labels = [
            pd.Series(names[np.searchsorted(edges, values)]).where(values.notna().to_numpy())
            for values in (pair.reference, pair.current)
        ]
    else:
        kept = pair.reference.value_counts().index[: most - 1]
        labels = [
            values.where(values.isna() | values.isin(kept), "(other)") for values in (pair.reference, pair.current)
        ]
    reference, current = (values.astype(object).fillna("(none)").astype(str) for values in labels)
    return reference, current


def _drop(pair: Pair, bound: float) -> Finding:
    """How much of the reference's mean is lost; the bound is at least three standard errors of that."""
    before = pair.reference.mean()
    error = (pair.reference.var() / len(pair.reference) + pair.current.var() / len(pair.current)) ** 0.5
    value = float(1 - pair.current.mean() / before)
    return Finding(
        kind="quality",
        column=pair.column,
        measure=DROP,
        value=value,
        bound=max(bound, float(3 * error / before)),
    )
