"""The recurring pipeline of a rollout: look at what users say of the new release, and act.

Run it as often as somebody should look, each hour say. The canary counts requests since the share was last moved; the
A/B test looks once a day. Nothing is cached: each run judges the world as it is, and moves it.
"""

from kfp import dsl

from components.deploy.component import act
from components.gate.component import canary, gate

PIPELINE = "nextpage-rollout"


@dsl.pipeline(name=PIPELINE, description="Looks at a release that is being rolled out, and moves traffic.")
def rollout(rollout: str, approved_by: str = "") -> None:
    """Looks at a release that is being rolled out, and moves traffic as the looks say.

    Args:
        rollout: Where and how releases are rolled out, YAML or JSON text: the one that deployed the release.
        approved_by: Who approves a promotion that waits for it, for this run alone. Empty: nobody.
    """
    canaried = canary(rollout=rollout).set_display_name("operational canary").set_caching_options(False)
    judged = gate(rollout=rollout, approved_by=approved_by).set_display_name("A/B test").set_caching_options(False)
    act(canary=canaried.outputs["record"], experiment=judged.outputs["record"], rollout=rollout).set_display_name(
        "move traffic"
    ).set_caching_options(False)
