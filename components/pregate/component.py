"""The off-policy pre-gate as a KFP component."""

from kfp import dsl

from components.images import DATA


@dsl.component(base_image=DATA, install_kfp_package=False)
def pregate(
    release: dsl.Input[dsl.Model],
    clean: dsl.Input[dsl.Dataset],
    rollout: str,
    verdict: dsl.Output[dsl.Artifact],
    card: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Is a release worse on what the serving one logged? See components/pregate/README.md.

    Args:
        release: The release folder.
        clean: The dataset folder that passed validation, for the users' histories.
        rollout: The rollout's settings, YAML or JSON text.
        verdict: Not passed only where the log shows harm.
        card: The estimates for people.
        metrics: Requests, effective rows, each estimate's difference, seconds and peak memory.
    """
    from pathlib import Path

    from components.deploy.config import read_rollout
    from components.deploy.traffic import open_rollout
    from components.measure import measured
    from components.pregate.step import card as weighed_card
    from components.pregate.step import weigh
    from nextpage.interactions.log import Dataset as Log

    with measured() as cost:
        config = read_rollout(rollout)
        interactions = Log(folder=Path(clean.path)).interactions
        weighed = weigh(config, open_rollout(config).state(), Path(release.path), interactions)
    print("; ".join(weighed.verdict.reasons))
    weighed.verdict.write(Path(verdict.path))
    Path(card.path).write_text(weighed_card(weighed))
    metrics.log_metric("requests", float(weighed.requests))
    for estimate in weighed.estimates:
        metrics.log_metric("effective_rows", estimate.effective_rows)
        metrics.log_metric(f"difference_{estimate.estimator.lower().replace(' ', '_')}", estimate.difference)
    metrics.log_metric("seconds", cost.seconds)
    metrics.log_metric("peak_memory_mb", cost.peak_memory_mb)
