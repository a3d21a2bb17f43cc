"""The suites, and what Great Expectations finds with them.

A suite is a JSON file that the library reads and writes as it is. Each expectation's `meta` says at which stage it
is asked (`schema`, `row`, `relation` or `figure`), the fault it finds, and the remedy. The rows that break a `row` or
`relation` expectation are the rows that go to quarantine; its `mostly` is the bound for the data set. So the filter
and the verdict cannot disagree.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    import pyspark.sql
    from great_expectations import ExpectationSuite
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.core.batch_definition import BatchDefinition
    from great_expectations.expectations.expectation import Expectation

SUITES = Path(__file__).parent / "suites"

ROW = "row"
"""The column of a Spark frame that holds the row number: such a frame has no index and no order."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one expectation found in one table. `measured` is the value, where the frame is one row of figures."""

    table: str
    measured: object = None
    result: "ExpectationValidationResult"

    @property
    def passed(self) -> bool:
        return bool(self.result.success)

    @property
    def name(self) -> str:
        return str(self.result.expectation_config.type)

    @property
    def column(self) -> str:
        return str(self.result.expectation_config.kwargs["column"])

    @property
    def fault(self) -> str:
        return str(self.result.expectation_config.meta["fault"])

    @property
    def rows(self) -> np.ndarray:
        """Row numbers, from 0, that break the expectation: int64 [count]."""
        found = self.result.result["unexpected_index_list"]
        if found and isinstance(found[0], dict):  # of a Spark frame, which has a column instead of an index
            found = sorted(one[ROW] for one in found)
        return np.asarray(found, dtype=np.int64)

    @property
    def by_row(self) -> bool:
        return self.result.expectation_config.meta["stage"] in ("row", "relation")

    def value(self) -> str:
        if not self.by_row:
            return _figure(self.measured)
        found = self.result.result
        return f"{found['unexpected_count'] / max(found['element_count'], 1):.2%} of rows"

    def bound(self) -> str:
        kwargs = self.result.expectation_config.kwargs
        if self.by_row:
            return f"at most {1 - kwargs.get('mostly', 1.0):.2%} of rows"
        if "value_set" in kwargs:
            return "one of: " + ", ".join(map(str, kwargs["value_set"]))
        if kwargs.get("min_value") is not None:
            return f"at least {_figure(kwargs['min_value'])}"
        return f"at most {_figure(kwargs['max_value'])}"

    def sentence(self) -> str:
        """One sentence: what broke, the value, the bound, the expectation, the remedy."""
        return (
            f"{self.table}: {self.fault}: {self.value()}, the bound is {self.bound()} "
            f"({self.name} on {self.column!r}); {self.result.expectation_config.meta['remedy']}"
        )


def _figure(value: object) -> str:
    if not isinstance(value, int | float):
        return str(value)
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


@cache
def load_suite(name: str) -> "ExpectationSuite":
    from great_expectations import ExpectationSuite

    return ExpectationSuite(**json.loads((SUITES / f"{name}.json").read_text()))


def asked(table: str, stage: str) -> "list[Expectation]":
    """The expectations of the suite `table` at a stage, in the suite's order."""
    return [one for one in load_suite(table).expectations if one.meta["stage"] == stage]


def check(
    frame: "pd.DataFrame | pyspark.sql.DataFrame", *, table: str, stage: str, parameters: Mapping[str, float]
) -> tuple[Finding, ...]:
    """Ask the suite's expectations of a stage about a frame whose index, or column `row` on Spark, is the row number.

    Returns the findings in the suite's order. Raises RuntimeError where an expectation could not be evaluated: that is
    a fault of a suite, never a success. Each column is a batch of its own, for the library copies the whole batch for
    each expectation on a column with nulls. The rows that break an expectation come to this process, wherever the frame
    lies: the bounds on quarantine say how many those can be.
    """
    from great_expectations import ExpectationSuite

    on_spark = not hasattr(frame, "iloc")
    keys, found_rows = ([ROW], {"unexpected_index_column_names": [ROW]}) if on_spark else ([], {})
    measured = frame.iloc[0].to_dict() if not on_spark and len(frame) == 1 else {}
    expectations = asked(table, stage)
    findings: dict[str, Finding] = {}
    for column in dict.fromkeys(one.column for one in expectations):
        report = (
            _batches("spark" if on_spark else "pandas")
            .get_batch({"dataframe": frame[[*keys, column]]})
            .validate(
                ExpectationSuite(name=table, expectations=[one for one in expectations if one.column == column]),
                result_format={"result_format": "COMPLETE", "return_unexpected_index_query": False} | found_rows,
                expectation_parameters=dict(parameters),
            )
        )
        for result in report.results:
            fault = result.expectation_config.meta["fault"]
            if not result.result:
                raise RuntimeError(f"{table}: the expectation for {fault!r} failed to run: {result.exception_info}")
            findings[fault] = Finding(table=table, result=result, measured=measured.get(column))
    return tuple(findings[one.meta["fault"]] for one in expectations)


@cache
def _batches(engine: str) -> "BatchDefinition":
    """Where frames become batches: a context in memory, that writes no files and shows no bars."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    sources = context.data_sources
    source = sources.add_spark("facts", persist=False) if engine == "spark" else sources.add_pandas("facts")
    return source.add_dataframe_asset("column").add_batch_definition_whole_dataframe("all")
