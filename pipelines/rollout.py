"""The recurring pipeline of a rollout: look at what users say of the new release, and act.

Run it as often as somebody should look, each hour say. The canary counts requests since the share was last moved; the
A/B test looks once a day. Nothing is cached: each run judges the world as it is, and moves it. A run that takes a
release back, or whose figures cannot be trusted, ends as a failure, so that somebody is told.
"""

from kfp import dsl

from components.deploy.component import act
from components.gate.component import canary, gate
from components.require.component import require
from pipelines.machines import acting

PIPELINE = "nextpage-rollout"


@dsl.pipeline(name=PIPELINE, description="Looks at a release that is being rolled out, and moves traffic.")
def rollout(rollout: str, approved_by: str = "") -> None:
    """Looks at a release that is being rolled out, and moves traffic as the looks say.

    Args:
        rollout: Where and how releases are rolled out, YAML or JSON text: the one that deployed the release.
        approved_by: Who approves a promotion that waits for it, for this run alone. Empty: nobody.
    """
    canaried = acting(canary(rollout=rollout), "operational canary")
    judged = acting(gate(rollout=rollout, approved_by=approved_by), "A/B test")
    looks = {"canary": canaried.outputs["record"], "experiment": judged.outputs["record"]}
    moved = acting(act(**looks, rollout=rollout), "move traffic")
    require(verdict=moved.outputs["verdict"]).set_display_name("require no rollback").set_caching_options(False)
