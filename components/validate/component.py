"""The validate step as a KFP component."""

from kfp import dsl

from components.images import DATA


@dsl.component(base_image=DATA, install_kfp_package=False)
def validate(
    recipe: dsl.Input[dsl.Artifact],
    raw: dsl.Input[dsl.Dataset],
    clean: dsl.Output[dsl.Dataset],
    quarantine: dsl.Output[dsl.Dataset],
    docs: dsl.Output[dsl.HTML],
    card: dsl.Output[dsl.Markdown],
    verdict: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    engine: str = "duckdb",
) -> None:
    """Part a log's sound rows from the others, and judge the data set; see components/validate/README.md.

    Args:
        recipe: The resolved recipe, for its section `validation`.
        raw: The dataset folder to judge.
        clean: The same folder without the rows in quarantine.
        quarantine: Those rows, each with its reason; Parquet.
        docs: Great Expectations' Data Docs.
        card: Verdict, rows in quarantine by fault, and figures against bounds.
        verdict: Is the data set good enough to learn from? A gate.
        metrics: Rows and quarantined rows, seconds and peak memory.
        engine: Judges rows by themselves: duckdb in this pod, or spark where Spark's own settings say.
    """
    import logging
    from pathlib import Path

    from components.measure import measured
    from components.validate.bounds import ValidationBounds
    from components.validate.card import card as card_of
    from components.validate.step import validate as judge
    from nextpage.recipes import parse_recipe

    bounds = parse_recipe(Path(recipe.path).read_text()).part("validation", ValidationBounds)
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    with measured() as cost:
        found = judge(Path(raw.path), Path(clean.path), Path(quarantine.path), Path(docs.path), bounds, engine=engine)
    found.verdict.write(Path(verdict.path))
    Path(card.path).write_text(card_of(found))
    for name, value in found.figures().items():
        metrics.log_metric(name, value)
    metrics.log_metric("seconds", cost.seconds)
    metrics.log_metric("peak_memory_mb", cost.peak_memory_mb)
