"""The validate step as a KFP component."""

from kfp import dsl

from components.images import BASE_IMAGE


@dsl.component(base_image=BASE_IMAGE, install_kfp_package=False)
def validate(
    raw: dsl.Input[dsl.Dataset],
    clean: dsl.Output[dsl.Dataset],
    quarantine: dsl.Output[dsl.Dataset],
    docs: dsl.Output[dsl.HTML],
    card: dsl.Output[dsl.Markdown],
    verdict: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    min_interactions: int = 1_000,
    min_users: int = 20,
    min_items: int = 50,
    max_quarantined_share: float = 0.05,
    max_unknown_item_share: float = 0.02,
    max_duplicate_share: float = 0.02,
    max_age_days: float = 36_500.0,
) -> None:
    """Judge a dataset folder; see components/validate/README.md."""
    from pathlib import Path

    from components.measure import measured
    from components.validate.bounds import ValidationBounds
    from components.validate.card import card as card_of
    from components.validate.step import validate as judge

    bounds = ValidationBounds(
        min_interactions=min_interactions,
        min_users=min_users,
        min_items=min_items,
        max_quarantined_share=max_quarantined_share,
        max_unknown_item_share=max_unknown_item_share,
        max_duplicate_share=max_duplicate_share,
        max_age_days=max_age_days,
    )
    with measured() as cost:
        found = judge(Path(raw.path), Path(clean.path), Path(quarantine.path), Path(docs.path), bounds)
    found.verdict.write(Path(verdict.path))
    Path(card.path).write_text(card_of(found))
    for name, value in found.figures().items():
        metrics.log_metric(name, value)
    metrics.log_metric("seconds", cost.seconds)
    metrics.log_metric("peak_memory_mb", cost.peak_memory_mb)
